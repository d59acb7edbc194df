"""Reading of saved models."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

import sklearn_vae.anomaly.methods  # noqa: F401  # registers the scores
from sklearn_vae.anomaly.rows import ScoredRows
from sklearn_vae.data.fields import Field
from sklearn_vae.data.schema import Schema
from sklearn_vae.imputation.average import AveragedImputation
from sklearn_vae.inference.fitted_models import FittedMixture, FittedModel, FittedVAE
from sklearn_vae.numerics.random import MAX_DRAWS
from sklearn_vae.persistence import file_format
from sklearn_vae.persistence.serialization import Reader, open_model
from sklearn_vae.persistence.validation import check_array, check_count
from sklearn_vae.runtime.models import (
    ClassifierModel,
    DensityModel,
    ImputerModel,
    OutlierModel,
    TransformerModel,
)

# Parts of models and scores that need PyTorch, by the names of their classes.
NEED_TORCH = {
    *("ConvNet", "CustomNetwork", "GRUNet"),
    *("GaussianCategorical", "RelaxedCategorical", "ReconstructionProbability"),
}


@dataclass
class SavedEstimator:
    """An estimator of a file, whose parameters and fitted attributes are read by name."""

    name: str
    values: dict[str, Any]
    reader: Reader

    def __getitem__(self, name: str) -> Any:
        return self.reader.read(self.values[name])

    @property
    def wrapped(self) -> Self | None:
        """The estimator that it has fitted, if it works by one."""
        if (state := self.values.get("estimator_")) is None:
            return None
        return type(self)(state["@object"], state["parameters"] | state["fitted"], self.reader)

    def read_model(self) -> Any:
        """Construct the model of the estimator that it has fitted."""
        wrapped: Any = self.wrapped
        return READERS[wrapped.name](wrapped)

    def unsupported(self) -> set[str]:
        """Return the parts that the runtime does not have."""
        names = set() if self.wrapped is None else self.wrapped.unsupported()
        names |= NEED_TORCH & {*_part_names(self.values.get("architecture_"))}
        if NEED_TORCH & {*_part_names(self.values.get("scorer_"))}:
            names.add(f"method={self.values['method']!r}")
        if self.values.get("n_imputations") is not None:
            names.add(f"n_imputations={self.values['n_imputations']!r}")
        return names


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
    with open_model(path) as (header, reader):
        saved = SavedEstimator(header["class"], header["parameters"] | header["fitted"], reader)
        unsupported = saved.unsupported()
        model = None if unsupported else READERS[saved.name](saved)
    if unsupported:
        raise ValueError(
            f"{path}: the runtime does not support {', '.join(sorted(unsupported))}. "
            f"sklearn_vae.load reads the file."
        )
    return model


def _part_names(value: Any) -> Iterator[str]:
    """Names of the classes of a header's objects."""
    if isinstance(value, dict):
        if isinstance(name := value.get("@object"), str):
            yield name
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _part_names(item)


def _read_model(
    saved: SavedEstimator, model: type[DensityModel], fitted: type[FittedModel], **options: Any
) -> Any:
    """Construct a model, and the predictor of its estimator's fitted attributes and options."""
    columns, schema, architecture = saved["columns_"], saved["schema_"], saved["architecture_"]
    if architecture.blocks not in (columns.blocks, columns.joint.blocks):
        raise ValueError("the model's columns are not those of the table")
    # a model of p(x) may have none
    conditions = saved["condition_encoder_"] if "condition_encoder_" in saved.values else None
    n_columns = 0 if conditions is None else conditions.encoder.n_features
    if n_columns != columns.n_condition_columns:
        raise ValueError("the conditions are not those of the table")
    if schema is None:
        fields = tuple(Field(name, "number", None, "float64") for name in columns.names)
        schema = Schema(fields, "array")
    if len(schema.fields) != columns.n_features:
        raise ValueError("the schema's columns are not those of the table")
    weights = saved["state_dict_"]
    for name, value in weights.items():
        check_array(name, value, "f", (None,) * np.ndim(value))
    if weights["encoder.linear.weight"].shape[-1:] != (architecture.n_posterior_params,):
        raise ValueError("the model's latent dimensions are not those of the weights")
    predictor: Any = fitted(columns, architecture, weights, saved["seed_"], **options)
    return model(predictor, schema, conditions)


def _read_transformer(saved: SavedEstimator) -> TransformerModel:
    correction, code_range = saved["decoder_correction_"], saved["code_range_"]
    options = {"correction": correction, "code_range": code_range}
    model = _read_model(saved, TransformerModel, FittedVAE, **options)
    y = np.zeros((1, model.columns.n_condition_columns))
    row = model.predictor.decode(np.zeros((1, model.n_components)), y)
    model.read(model.write(row))
    model.predictor.log_density(np.hstack([row, y]), 1)
    # not before: the means of some columns are none of their values
    model.handle_unknown = saved["handle_unknown"]
    return model


def _read_density(saved: SavedEstimator) -> DensityModel:
    weight = saved["weights_"]
    model = _read_model(saved, DensityModel, FittedMixture, weight=weight)
    check_array("weights_", weight, "f", (model.predictor.n_members,))
    row = np.full((1, model.n_features_in_), np.nan)
    model.read(model.write(model.imputations(row)[0]))
    model.predictor.log_density(row, 1)
    return model


def _read_outlier(saved: SavedEstimator) -> OutlierModel:
    model, columns = saved.read_model(), saved["distance_encoder_"]
    rows, scores = saved["reference_samples_"], saved["calibration_scores_"]
    check_array("reference_samples_", rows, "n", (None, columns.n_features))
    check_array("calibration_scores_", scores, "f", (None,))
    reference, novelty = ScoredRows(rows, columns, model.predictor), bool(saved["novelty"])
    scorer, offset = saved["scorer_"], float(saved["offset_"])
    detector = OutlierModel(model, scorer, reference, scores, offset, novelty)
    detector.score_samples(model.write(rows[:1]))
    return detector


def _read_imputer(saved: SavedEstimator) -> ImputerModel:
    model = saved.read_model()
    imputation = AveragedImputation(
        model.imputations,
        model.columns,
        model.is_rounded,
        trees=saved["trees_"],
        trees_weight=float(saved["trees_weight_"]),
    )
    imputation.check()
    indicated = saved["indicated_"]
    check_array("indicated_", indicated, "i", (None,))
    is_kept = bool(saved["keep_empty_features"]) | ~model.columns.is_empty
    missing_values = saved["missing_values"]
    imputer = ImputerModel(model, imputation, indicated, is_kept, missing_values)
    imputer.transform(model.write(np.full((1, model.n_features_in_), np.nan)))
    return imputer


def _read_classifier(saved: SavedEstimator) -> ClassifierModel:
    model, classes, priors = saved.read_model(), saved["classes_"], saved["priors_"]
    check_array("priors_", priors, "f", (len(classes),))
    n_draws = check_count("n_draws", saved["n_draws"], maximum=MAX_DRAWS)
    classifier = ClassifierModel(model, classes, priors, n_draws)
    classifier.predict_log_proba(model.write(np.full((1, model.n_features_in_), np.nan)))
    return classifier


# Constructors of models by class of the estimator, which check that the model computes.
READERS: dict[str, Callable[[SavedEstimator], Any]] = {
    "VAETransformer": _read_transformer,
    "VAEDensity": _read_density,
    "VAEOutlierDetector": _read_outlier,
    "VAEImputer": _read_imputer,
    "VAEClassifier": _read_classifier,
}
