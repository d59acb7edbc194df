"""Estimators read from files."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from sklearn_vae.estimators.classifier import VAEClassifier
from sklearn_vae.estimators.density import VAEDensity
from sklearn_vae.estimators.imputer import VAEImputer
from sklearn_vae.estimators.outlier import VAEOutlierDetector
from sklearn_vae.estimators.transformer import VAETransformer
from sklearn_vae.persistence import file_format
from sklearn_vae.persistence.estimators import (
    MODEL,
    compare_versions,
    computing_on_cpu,
    made_estimator,
)
from sklearn_vae.persistence.serialization import AT_HAND, attach, name_of, room_for, unpack

# Estimators that a file may hold. They import all that their parameters may be.
ESTIMATORS = {
    cls.__name__: cls
    for cls in (VAEClassifier, VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer)
}


def load(path: file_format.PathLike, *, modules: Sequence[Any] = ()) -> Any:
    """Read an estimator that ``save`` has written.

    The file is data only: no part of it is run, whoever wrote it. Its checksum, its
    parameters and the shapes of its arrays are checked before anything is made of them.

    Parameters
    ----------
    path : str or path-like
        The file.
    modules : sequence of torch.nn.Module or classes of them, default=()
        What the model has for an encoder or decoder of your own. The file names their
        classes, and nothing is ever imported because a file says so.

    Returns
    -------
    estimator
        As it was when it was saved, on whatever machine: ``device`` is looked for when it is
        used.

    Raises
    ------
    ValueError
        If the file is not one of ``save``'s, is damaged, or is in a newer format.
    OSError
        If it cannot be read.

    Warns
    -----
    InconsistentVersionWarning
        If another version of sklearn_vae wrote the file.

    Examples
    --------
    >>> import tempfile, pathlib, sklearn_vae
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> vae = sklearn_vae.VAETransformer(max_iter=2, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     vae.save(pathlib.Path(folder, "iris.vae"))
    ...     again = sklearn_vae.load(pathlib.Path(folder, "iris.vae"))
    >>> bool((again.score_samples(X) == vae.score_samples(X)).all())
    True
    """
    header, arrays = file_format.read(path)
    if header.get("kind") != MODEL:
        raise ValueError(f"{path}: it holds no model, but a {header.get('kind')!r}.")
    at_hand = AT_HAND.set({name_of(own): own for own in modules})
    try:
        with room_for(os.path.getsize(path)):
            estimator = _read_estimator(header, arrays)
        written_by = str(header["versions"]["sklearn_vae"])
    except MemoryError:
        raise
    except Exception as error:
        # the checksum is right, so somebody wrote what cannot be; what fails first is chance
        raise ValueError(f"{path}: it holds no model that can be: {error!r:.300}") from error
    finally:
        AT_HAND.reset(at_hand)
    compare_versions(type(estimator).__name__, written_by)
    return estimator


def _read_estimator(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    """Make an estimator, and check that it can be one."""
    name = header["class"]
    if name not in ESTIMATORS:
        raise ValueError(f"no estimator is called {name!r}")
    parts = (unpack(attach(header[part], arrays)) for part in ("parameters", "learned"))
    estimator = made_estimator(ESTIMATORS[name], *parts)
    with computing_on_cpu(estimator):
        estimator._check_learned()
    return estimator
