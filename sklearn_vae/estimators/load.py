"""Loading of estimators from files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sklearn_vae.estimators.classifier import VAEClassifier
from sklearn_vae.estimators.density import VAEDensity
from sklearn_vae.estimators.imputer import VAEImputer
from sklearn_vae.estimators.outlier import VAEOutlierDetector
from sklearn_vae.estimators.transformer import VAETransformer
from sklearn_vae.persistence import file_format
from sklearn_vae.persistence.estimators import warn_if_other_version
from sklearn_vae.persistence.serialization import open_model

if TYPE_CHECKING:
    from torch.nn import Module

# Estimators by name. Importing them registers every class of their parameters.
ESTIMATORS = {
    cls.__name__: cls
    for cls in (VAEClassifier, VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer)
}


def load(path: file_format.PathLike, *, modules: Sequence[Module | type[Module]] = ()) -> Any:
    """Read an estimator from a file that ``save`` has written.

    The file is data only: no part of it is executed, so a file from an untrusted source can be
    loaded. Its checksum, its parameters and the shapes of its arrays are validated.

    Parameters
    ----------
    path : str or path-like
        Path of the file.
    modules : sequence of torch.nn.Module or classes of them, default=()
        The user's modules that are the model's encoder or decoder. The file has the names of
        their classes, and nothing is imported by a name from a file.

    Returns
    -------
    estimator
        The fitted estimator. If this machine does not have its ``device``, it computes on the
        CPU and warns.

    Raises
    ------
    ValueError
        If the file is damaged, of another kind, or in a newer format.
    OSError
        If the file cannot be read.

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
    with open_model(path, modules) as (header, reader):
        name = header["class"]
        if name not in ESTIMATORS:
            raise ValueError(f"no estimator is called {name!r}")
        sections = (reader.read(header[section]) for section in ("parameters", "fitted"))
        estimator = ESTIMATORS[name].from_file(*sections)
        estimator._validate_fitted()
        written_by = str(header["versions"]["sklearn_vae"])
    warn_if_other_version(name, written_by)
    return estimator
