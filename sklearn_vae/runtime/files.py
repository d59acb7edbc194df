"""Reading of saved models."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.data.fields import Field
from sklearn_vae.data.schema import Schema
from sklearn_vae.imputation.average import AveragedImputation
from sklearn_vae.likelihoods import LIKELIHOODS
from sklearn_vae.likelihoods.columnwise import Limits
from sklearn_vae.models.mixture_ensemble import MixtureEnsemble
from sklearn_vae.persistence import file_format
from sklearn_vae.persistence.serialization import Reader
from sklearn_vae.persistence.validation import check_array
from sklearn_vae.runtime.classifier import ClassifierModel
from sklearn_vae.runtime.density import DensityModel, MixtureArchitecture
from sklearn_vae.runtime.imputer import ImputerModel
from sklearn_vae.runtime.outlier import SCORERS, OutlierModel
from sklearn_vae.runtime.transformer import TransformerModel
from sklearn_vae.runtime.vae import (
    VAE,
    Architecture,
    DefaultPart,
    MixturePrior,
    VampPrior,
)

# Size of an array that is freed at once, unused. The C library of Linux then keeps freed memory, of
# up to twice this size, for the next arrays; it would return that of every score to the system.
FREED_BYTES = 1 << 24

# Classes and functions of numpy, by their names in a file.
PARTS: dict[str, Any] = (
    SCORERS
    | dict.fromkeys(("FullyConnected", "DiagonalGaussian", "StandardNormal"), DefaultPart)
    | {likelihood.__name__: likelihood for likelihood in LIKELIHOODS.values()}
    | {cls.__name__: cls for cls in (Architecture, MixtureArchitecture, MixturePrior, VampPrior)}
)


@dataclass
class SavedEstimator:
    """An estimator of a file, whose parameters and fitted attributes are read by name."""

    name: str
    parameters: dict[str, Any]
    fitted: dict[str, Any]
    reader: Reader

    def __getitem__(self, attribute: str) -> Any:
        return self.reader.read(self.fitted[attribute])

    def parameter(self, name: str) -> Any:
        """Read a parameter."""
        return self.reader.read(self.parameters[name])

    def wrapped(self, attribute: str) -> Self | None:
        """Return the estimator that is an attribute, if it is not None."""
        if (state := self.fitted[attribute]) is None:
            return None
        return type(self)(state["@object"], state["parameters"], state["fitted"], self.reader)

    def read_model(self, attribute: str = "estimator_") -> Any:
        """Construct the model of an attribute that is an estimator, if it is not None."""
        wrapped = self.wrapped(attribute)
        return None if wrapped is None else READERS[wrapped.name](wrapped)

    def unsupported(self) -> set[str]:
        """Return the parts that the runtime does not have."""
        if self.name not in READERS:
            return {str(self.name)}
        names = set()
        if self.parameters.get("n_imputations") is not None:
            names.add(f"n_imputations={self.parameters['n_imputations']!r}")
        if not set(_part_names(self.fitted.get("scorer_"))) <= set(PARTS):
            names.add(f"method={self.parameters['method']!r}")
        wrapped = self.wrapped("estimator_") if "estimator_" in self.fitted else None
        if wrapped is not None:
            return names | wrapped.unsupported()
        return names | set(_part_names(self.fitted["architecture_"])) - set(PARTS)


def load(path: file_format.PathLike) -> Any:
    """Read a saved estimator as a model that computes without PyTorch.

    Parameters
    ----------
    path : str or path-like
        Path of a file that ``save`` has written.

    Returns
    -------
    TransformerModel, DensityModel, OutlierModel, ImputerModel or ClassifierModel
        The model of a ``VAETransformer``, ``VAEDensity``, ``VAEOutlierDetector``, ``VAEImputer``
        or ``VAEClassifier``, with methods of the estimator.

    Raises
    ------
    ValueError
        If the file is damaged, or holds an estimator or a part that the runtime does not support.
    OSError
        If the file cannot be read.

    See Also
    --------
    sklearn_vae.load : Read the estimator itself, which computes with torch.

    Examples
    --------
    >>> import tempfile, pathlib, sklearn_vae.runtime
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris().data
    >>> vae = sklearn_vae.VAETransformer(2, max_iter=2, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     vae.save(pathlib.Path(folder, "iris.vae"))
    ...     model = sklearn_vae.runtime.load(pathlib.Path(folder, "iris.vae"))
    >>> bool(abs(model.transform(X) - vae.transform(X)).max() < 1e-6)
    True
    """
    np.empty(FREED_BYTES, np.uint8)
    header, arrays = file_format.read(path)
    if header.get("kind") != "model":
        raise ValueError(f"{path}: the file holds no estimator, but a {header.get('kind')!r}.")
    reader = Reader(arrays, os.path.getsize(path), classes=PARTS)
    try:
        saved = SavedEstimator(header["class"], header["parameters"], header["fitted"], reader)
        unsupported = saved.unsupported()
        if not unsupported:
            return READERS[saved.name](saved)
    except MemoryError:
        raise
    except Exception as error:
        # with a valid checksum and invalid contents the file is forged: any statement may fail
        raise ValueError(f"{path}: the file does not hold a valid model: {error!r:.300}") from error
    raise ValueError(
        f"{path}: the runtime does not support {', '.join(sorted(unsupported))}. "
        f"sklearn_vae.load reads the file."
    )


def _part_names(value: Any) -> Iterator[str]:
    """Names of the classes of a header's objects, and of functions."""
    if isinstance(value, dict):
        if isinstance(name := value.get("@object", value.get("@function")), str):
            yield name
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _part_names(item)


def _read_table(saved: SavedEstimator, architecture: Architecture) -> dict[str, Any]:
    """Return the fields of a ``GenerativeModel``, whose columns are those of the networks."""
    columns, schema = saved["columns_"], saved["schema_"]
    if architecture.blocks not in (columns.blocks, columns.joint.blocks):
        raise ValueError("the model's columns are not those of the table")
    # a model of p(x) may have none
    conditions = saved["condition_encoder_"] if "condition_encoder_" in saved.fitted else None
    n_columns = 0 if conditions is None else conditions.encoder.n_features
    if n_columns != columns.n_condition_columns:
        raise ValueError("the conditions are not those of the table")
    if schema is None:
        fields = tuple(Field(name, "number", None, "float64") for name in columns.names)
        schema = Schema(fields, "array")
    if len(schema.fields) != columns.n_features:
        raise ValueError("the schema's columns are not those of the table")
    return {"columns": columns, "schema": schema, "seed": saved["seed_"], "conditions": conditions}


def _read_weights(
    architecture: Architecture, weights: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Check the parameters of the networks, and convert them to double precision."""
    for name, value in weights.items():
        check_array(name, value, "f", (None,) * np.ndim(value))
    if weights["encoder.linear.weight"].shape[-1:] != (2 * architecture.n_components,):
        raise ValueError("the model's latent dimensions are not those of the weights")
    return {name: value.astype(np.float64) for name, value in weights.items()}


def _read_transformer(saved: SavedEstimator) -> TransformerModel:
    architecture = saved["architecture_"]
    model = TransformerModel(
        **_read_table(saved, architecture),
        vae=VAE(architecture, _read_weights(architecture, saved["state_dict_"])),
        correction=saved["decoder_correction_"],
        code_range=saved["code_range_"],
    )
    y = np.zeros((1, model.columns.n_condition_columns))
    row = model.decode(np.zeros((1, model.n_components)), y)
    model.read(model.write(row))
    model.log_density(np.hstack([row, y]), 1)
    # not before: the means of some columns are none of their values
    model.handle_unknown = saved.parameter("handle_unknown")
    return model


def _read_density(saved: SavedEstimator) -> DensityModel:
    architecture, members, weight = (
        saved[name] for name in ("architecture_", "state_dict_", "weights_")
    )
    check_array("weights_", weight, "f", (len(members),))
    members = [_read_weights(architecture, weights) for weights in members]
    table = _read_table(saved, architecture)
    limits = Limits._make(table["columns"].joint.limits())
    ensemble = MixtureEnsemble(architecture, members, weight, limits)
    model = DensityModel(**table, model=ensemble)
    row = np.full((1, model.n_features_in_), np.nan)
    model.read(model.write(model.impute_rows(row)))
    model.log_density(row, 1)
    return model


def _read_outlier(saved: SavedEstimator) -> OutlierModel:
    model, columns, rows, scores = (
        saved.read_model(),
        *(
            saved[name]
            for name in ("distance_encoder_", "reference_samples_", "calibration_scores_")
        ),
    )
    check_array("reference_samples_", rows, "f", (None, columns.n_features), allows_nan=True)
    check_array("calibration_scores_", scores, "f", (None,))
    reference = ScoredRows(rows, columns, model)
    are_new = bool(saved.parameter("novelty")) and reference.are_often_repeated
    detector = OutlierModel(
        columns=model.columns,
        schema=model.schema,
        scorer=saved["scorer_"],
        reference=reference,
        calibration_scores_=scores,
        offset_=saved["offset_"],
        are_new=are_new,
    )
    detector.score_rows(rows[:1])
    return detector


def _read_imputer(saved: SavedEstimator) -> ImputerModel:
    model, mixture = saved.read_model(), saved.read_model("mixture_")
    imputation = AveragedImputation(
        model.imputations,
        None if mixture is None else mixture.imputations,
        model.columns,
        model.is_rounded,
        mixture_weight=float(saved["mixture_weight_"]),
        trees=saved["trees_"],
        trees_weight=float(saved["trees_weight_"]),
    )
    imputation.check()
    indicated = saved["indicated_"]
    check_array("indicated_", indicated, "i", (None,))
    is_kept = bool(saved.parameter("keep_empty_features")) | ~model.columns.is_empty
    missing_values = saved.parameter("missing_values")
    imputer = ImputerModel(model, imputation, indicated, is_kept, missing_values)
    imputer.impute_rows(np.full((1, model.n_features_in_), np.nan))
    return imputer


def _read_classifier(saved: SavedEstimator) -> ClassifierModel:
    model, classes, priors = saved.read_model(), saved["classes_"], saved["priors_"]
    check_array("priors_", priors, "f", (len(classes),))
    classifier = ClassifierModel(model, classes, priors, saved.parameter("n_draws"))
    classifier.log_probabilities(np.full((1, model.n_features_in_), np.nan))
    return classifier


# Constructors of models by class of the estimator, which check that the model computes.
READERS: dict[str, Callable[[SavedEstimator], Any]] = {
    "VAETransformer": _read_transformer,
    "VAEDensity": _read_density,
    "VAEOutlierDetector": _read_outlier,
    "VAEImputer": _read_imputer,
    "VAEClassifier": _read_classifier,
}
