"""Reading of saved models."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from sklearn_vae.data.conditions import ConditionEncoder
from sklearn_vae.data.fields import Field
from sklearn_vae.imputation.average import AveragedImputation
from sklearn_vae.likelihoods import LIKELIHOODS
from sklearn_vae.likelihoods.columnwise import Limits
from sklearn_vae.persistence import file_format
from sklearn_vae.persistence.registry import SUBSTITUTES
from sklearn_vae.persistence.serialization import deserialize, insert_arrays, memory_budget
from sklearn_vae.persistence.validation import check_array, check_count
from sklearn_vae.runtime.classifier import ClassifierModel
from sklearn_vae.runtime.density import DensityModel, MixtureArchitecture, NumpyMixtureEnsemble
from sklearn_vae.runtime.imputer import ImputerModel
from sklearn_vae.runtime.outlier import SCORERS, OutlierModel, Predictor, ScoredRows
from sklearn_vae.runtime.random import MAX_DIMS
from sklearn_vae.runtime.transformer import TransformerModel
from sklearn_vae.runtime.vae import (
    VAE,
    Architecture,
    DiagonalGaussian,
    FullyConnected,
    MixturePrior,
    StandardNormal,
    VampPrior,
)

# Size of an array that is freed at once, unused. The C library of Linux then keeps freed memory, of
# up to twice this size, for the next arrays; it would return that of every score to the system.
FREED_BYTES = 1 << 24
# Classes and functions of numpy, by their names in a file.
PARTS: dict[str, Any] = SCORERS | {
    cls.__name__: cls
    for cls in (
        *LIKELIHOODS.values(),
        Architecture,
        DiagonalGaussian,
        FullyConnected,
        MixtureArchitecture,
        MixturePrior,
        StandardNormal,
        VampPrior,
    )
}
# Containers of numbers, of those of a schema.
ARRAYS = ("array", "sparse")


def load(path: file_format.PathLike) -> Any:
    """Read a saved estimator as a model that computes with numpy alone.

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
    if unsupported := _unsupported(header):
        raise ValueError(
            f"{path}: the numpy runtime does not support {', '.join(sorted(unsupported))}. "
            f"sklearn_vae.load reads the file."
        )
    try:
        with memory_budget(os.path.getsize(path)), _classes_in_numpy():
            model = _read_model(header, arrays)
    except MemoryError:
        raise
    except Exception as error:
        # with a valid checksum and invalid contents the file is forged: any statement may fail
        raise ValueError(f"{path}: the file does not hold a valid model: {error!r:.300}") from error
    return model


@contextmanager
def _classes_in_numpy() -> Iterator[None]:
    """Replace classes of torch by those of numpy while a file is read."""
    token = SUBSTITUTES.set(PARTS)
    try:
        yield
    finally:
        SUBSTITUTES.reset(token)


def _unsupported(header: dict[str, Any]) -> set[str]:
    """Return the parts of a file that the runtime does not have."""
    name, fitted, parameters = header["class"], header["fitted"], header["parameters"]
    if name not in READERS:
        return {str(name)}
    names = set()
    if not set(_part_names(fitted.get("scorer_"))) <= set(PARTS):
        names.add(f"method={parameters['method']!r}")
    if "estimator_" in fitted:
        return names | _unsupported(_nested(fitted["estimator_"]))
    names |= set(_part_names(fitted["architecture_"])) - set(PARTS)
    if fitted["architecture_"].get("n_components", 0) >= MAX_DIMS:
        names.add(f"{MAX_DIMS} or more latent dimensions")
    return names


def _nested(estimator: dict[str, Any]) -> dict[str, Any]:
    """Header of an estimator that is an attribute of another one."""
    return {"class": estimator["@estimator"], **estimator}


def _fields(header: dict[str, Any]) -> list[Field] | None:
    """Types of the columns of a data frame, or of an array of objects."""
    if (schema := header["fitted"]["schema_"]) is None or schema["state"]["container"] in ARRAYS:
        return None
    return [Field.from_dict(deserialize(field)) for field in schema["state"]["fields"]]


def _part_names(value: Any) -> Iterator[str]:
    """Names of the classes of a header's objects, and of functions."""
    if isinstance(value, dict):
        if isinstance(name := value.get("@object", value.get("@function")), str):
            yield name
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _part_names(item)


def _read_model(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    """Construct the model of a file, and check that it computes."""
    attributes, read = READERS[header["class"]]
    saved = {"condition_encoder_": None} | header["fitted"]  # a model of p(x) may have none
    values = insert_arrays({name: saved[name] for name in attributes}, arrays)
    fitted: dict[str, Any] = {}
    for name, value in values.items():
        is_estimator = isinstance(value, dict) and "@estimator" in value
        fitted[name] = _read_model(_nested(value), arrays) if is_estimator else deserialize(value)
    if "architecture_" in fitted and fitted["architecture_"].blocks not in (
        fitted["columns_"].blocks,
        fitted["columns_"].joint.blocks,
    ):
        raise ValueError("the model's columns are not those of the table")
    parameters = header["parameters"]
    if "estimator_" in values and parameters["random_state"] is None:  # that of a given model
        of_model = values["estimator_"]["parameters"]["random_state"]
        parameters = parameters | {"random_state": of_model}
    return read(fitted, parameters, _fields(header) if "architecture_" in fitted else None)


def _read_weights(fitted: dict[str, Any], weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Check the parameters of the networks, and convert them to double precision."""
    for name, value in weights.items():
        check_array(name, value, "f", (None,) * np.ndim(value))
    n_components = fitted["architecture_"].n_components
    if weights["encoder.linear.weight"].shape[-1:] != (2 * n_components,):
        raise ValueError("the model's latent dimensions are not those of the weights")
    return {name: value.astype(np.float64) for name, value in weights.items()}


def _read_vae(fitted: dict[str, Any]) -> VAE:
    """Construct the networks."""
    weights = _read_weights(fitted, fitted["state_dict_"])
    limits = Limits._make(fitted["columns_"].limits())
    return VAE(fitted["architecture_"], weights, limits)


def _read_transformer(
    fitted: dict[str, Any], parameters: dict[str, Any], fields: list[Field] | None
) -> TransformerModel:
    columns, seed, correction, code_range = (
        fitted[name] for name in ("columns_", "seed_", "decoder_correction_", "code_range_")
    )
    vae, conditions = _read_vae(fitted), _read_conditions(fitted)
    model = TransformerModel(columns, vae, seed, correction, code_range, fields, conditions)
    y = np.zeros((1, model.columns.n_condition_columns))
    row = model.decode(np.zeros((1, model.n_components)), y)
    model.read(model.write(row))
    model.log_density(np.hstack([row, y]), 1)
    model.sample_given(y, model.seed)
    # not before: the means of some columns are none of their values
    model.handle_unknown = parameters["handle_unknown"]
    return model


def _read_conditions(fitted: dict[str, Any]) -> ConditionEncoder | None:
    """Return the encoder of y, and check that the table has its columns."""
    conditions: ConditionEncoder | None = fitted["condition_encoder_"]
    n_columns = 0 if conditions is None else conditions.encoder.n_features
    if n_columns != fitted["columns_"].n_condition_columns:
        raise ValueError("the conditions are not those of the table")
    return conditions


def _read_outlier(
    fitted: dict[str, Any], parameters: dict[str, Any], _fields: list[Field] | None
) -> OutlierModel:
    columns, rows = fitted["columns_"], fitted["reference_samples_"]
    model, scores = fitted["estimator_"], fitted["calibration_scores_"]
    check_array("reference_samples_", rows, "f", (None, columns.n_features), allows_nan=True)
    check_array("calibration_scores_", scores, "f", (None,))
    predictor: Any = Predictor(model)
    reference = ScoredRows(rows, columns, predictor)
    are_new = bool(parameters["novelty"]) and reference.are_often_repeated
    scorer, offset = fitted["scorer_"], fitted["offset_"]
    detector = OutlierModel(model, scorer, reference, scores, offset, are_new=are_new)
    detector.score_rows(rows[:1])
    return detector


def _read_density(
    fitted: dict[str, Any], _parameters: dict[str, Any], fields: list[Field] | None
) -> DensityModel:
    columns, weight = fitted["columns_"], fitted["weights_"]
    check_array("weights_", weight, "f", (len(fitted["state_dict_"]),))
    members = [_read_weights(fitted, weights) for weights in fitted["state_dict_"]]
    ensemble = NumpyMixtureEnsemble(
        fitted["architecture_"], members, weight, Limits._make(columns.joint.limits())
    )
    conditions = _read_conditions(fitted)
    model = DensityModel(columns, ensemble, fitted["seed_"], fields, conditions)
    model.score_samples(model.sample(1), n_draws=1)
    return model


def _read_imputer(
    fitted: dict[str, Any], parameters: dict[str, Any], _fields: list[Field] | None
) -> ImputerModel:
    model, mixture, indicated = (fitted[name] for name in ("estimator_", "mixture_", "indicated_"))
    check_array("indicated_", indicated, "i", (None,))
    imputation = AveragedImputation(
        model.impute_rows,
        None if mixture is None else mixture.impute_rows,
        model.columns,
        model.is_rounded,
        mixture_weight=float(fitted["mixture_weight_"]),
        trees=fitted["trees_"],
        trees_weight=float(fitted["trees_weight_"]),
        spread=fitted["spread_"],
        repeated_values=fitted["repeated_values_"],
    )
    imputation.check()
    n_imputations = parameters["n_imputations"]
    imputer = ImputerModel(
        model,
        imputation,
        indicated,
        bool(parameters["keep_empty_features"]) | ~model.columns.is_empty,
        deserialize(parameters["missing_values"]),
        None if n_imputations is None else check_count("n_imputations", n_imputations),
        deserialize(parameters["random_state"]),
    )
    row = np.full((1, model.n_features_in_), np.nan)
    imputer.impute_rows(row, None if n_imputations is None else 1)
    return imputer


def _read_classifier(
    fitted: dict[str, Any], parameters: dict[str, Any], _fields: list[Field] | None
) -> ClassifierModel:
    model, classes, priors = (fitted[name] for name in ("estimator_", "classes_", "priors_"))
    check_array("priors_", priors, "f", (len(classes),))
    classifier = ClassifierModel(model, classes, priors, parameters["n_draws"])
    classifier.log_probabilities(np.full((1, model.n_features_in_), np.nan))
    return classifier


# By class of the estimator: fitted attributes that a model needs, and its construction.
MODEL = ("columns_", "architecture_", "state_dict_", "seed_")
READERS: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
    "VAETransformer": (
        (*MODEL, "beta_", "decoder_correction_", "code_range_", "condition_encoder_"),
        _read_transformer,
    ),
    "VAEDensity": ((*MODEL, "weights_", "condition_encoder_"), _read_density),
    "VAEOutlierDetector": (
        (
            "estimator_", "columns_", "scorer_", "offset_", "reference_samples_",
            "calibration_scores_",
        ),
        _read_outlier,
    ),
    "VAEImputer": (
        (
            "estimator_", "mixture_", "mixture_weight_", "trees_", "trees_weight_",
            "spread_", "repeated_values_", "indicated_",
        ),
        _read_imputer,
    ),
    "VAEClassifier": (("estimator_", "classes_", "priors_"), _read_classifier),
}  # fmt: skip
