"""Methods of rows that also take a source of batches."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from sklearn_vae.data.sources import as_source
from sklearn_vae.system.progress import advance, show_progress, uncounted

Method = TypeVar("Method", bound=Callable[..., Any])


def accepts_source(method: Method) -> Method:
    """Decorate a method of a table X so that it also takes a source of batches.

    Its arrays (n, ...), or tuples of them, are those of all batches, one after the other.
    """

    @wraps(method)
    def method_of_batches(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        source = as_source(X)
        if source is None:
            return method(self, X, *args, **kwargs)
        y: Any = args[0] if args else kwargs.get("y")
        if np.ndim(y) and getattr(self, "condition_encoder_", None) is not None:
            raise ValueError(
                "With a source of batches, y must be one value for all rows. Pass the rows of an "
                "array y as a table."
            )
        # an iterator, as of names of columns, can be read once only
        kwargs = {k: [*v] if isinstance(v, Iterator) else v for k, v in kwargs.items()}
        results = []
        model = getattr(self, "estimator_", self)  # a classifier's, which has the parameter
        with show_progress("Computing", 0, getattr(model, "verbose", False)):
            for batch in source:
                with uncounted():  # a row may be computed more than once
                    results.append(method(self, batch, *args, **kwargs))
                advance(batch.shape[0])
        if isinstance(results[0], tuple):
            return tuple(map(np.concatenate, zip(*results, strict=True)))
        return np.concatenate(results)

    return cast(Method, method_of_batches)
