"""Models that are kept: the same after any way out of the process and back."""

import copy
import json
import pickle
import tracemalloc
import warnings
from datetime import date
from decimal import Decimal
from itertools import product
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from skorch.callbacks import Callback

import sklearn_vae
from sklearn_vae import VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer
from sklearn_vae.anomaly.scores import METHODS
from sklearn_vae.estimators.load import ESTIMATORS
from sklearn_vae.likelihoods import Bernoulli, Gaussian
from sklearn_vae.objectives import IWAE, LinearWarmup, TotalCorrelation
from sklearn_vae.persistence import file_format
from sklearn_vae.persistence.validation import find, is_serializable, serializable
from sklearn_vae.priors import MixturePrior, StandardNormal, VampPrior
from tests.conftest import correlated_rows, reread
from tests.test_public import PUBLIC

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.usefixtures("few_steps")

ROOT = Path(__file__).parents[2]
PARAMETER_MODULES = ("likelihoods", "networks", "objectives", "posteriors", "priors")
GOLDEN = ROOT / "tests" / "persistence" / "golden"


def rows(n=120, seed=0):
    """Real columns, a binary and a constant one."""
    X = correlated_rows(n, 5, seed)
    X[:, 3], X[:, 4] = X[:, 3] > 0, 2.5
    return X


SMALL = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
MODELS = {
    "transformer": VAETransformer(2, **SMALL),
    "mixture prior": VAETransformer(**SMALL, prior=MixturePrior(3), beta=LinearWarmup(1.0, 2)),
    "vamp prior": VAETransformer(**SMALL, prior=VampPrior(4), objective=IWAE(2)),
    "named prior": VAETransformer(**SMALL, prior=StandardNormal(), objective=TotalCorrelation(2.0)),
    "a scale per column": VAETransformer(**SMALL, likelihood=Gaussian("per_column")),
    "kinds by column": VAETransformer(
        **SMALL, likelihood={0: Gaussian(0.5), 3: Bernoulli(), "b": "gaussian"}
    ),
    "density": VAEDensity(**SMALL),
    "one member": VAEDensity(**SMALL, mixtures=[(2, "diag")]),
    "detector": VAEOutlierDetector(**SMALL),
    "novelty": VAEOutlierDetector(**SMALL, novelty=True),
    "conformal": VAEOutlierDetector(**SMALL, method="neighbors", calibration="conformal"),
    **{method: VAEOutlierDetector(**SMALL, method=method, novelty=True) for method in METHODS},
}


@pytest.fixture(scope="module")
def fitted():
    """Every model, fitted once, on a frame: columns have names."""
    X = pd.DataFrame(rows(), columns=list("abcde"))
    return {name: clone(model).fit(X) for name, model in MODELS.items()}


def kept(estimator, tmp_path):
    estimator.save(tmp_path / "model.vae")
    return sklearn_vae.load(tmp_path / "model.vae")


def assert_same(found, expected):
    """In parameters, attributes, scores: to the last bit."""
    X = pd.DataFrame(rows(8, seed=1), columns=list("abcde"))
    assert type(found) is type(expected)
    assert repr(found) == repr(expected)
    assert vars(found).keys() == vars(expected).keys()
    models = [getattr(each, "estimator_", each) for each in (found, expected)]
    assert models[0].history_ == models[1].history_
    assert models[0].columns_.names == models[1].columns_.names
    np.testing.assert_array_equal(found.score_samples(X), expected.score_samples(X))
    np.testing.assert_array_equal(found.feature_names_in_, expected.feature_names_in_)


WAYS = {
    "save": kept,
    "pickle": lambda own, _: pickle.loads(pickle.dumps(own)),
    "oldest pickle": lambda own, _: pickle.loads(pickle.dumps(own, protocol=2)),
    "cloudpickle": lambda own, _: pickle.loads(pytest.importorskip("cloudpickle").dumps(own)),
    "deepcopy": lambda own, _: copy.deepcopy(own),
    "copy": lambda own, _: copy.copy(own),
}


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *product(MODELS, ["save", "pickle"]),
        *product(["transformer", "density", "novelty"], list(WAYS)[2:]),
    ],
)
def test_a_saved_pickled_or_copied_model_has_identical_scores(fitted, name, way, tmp_path):
    """And it can be saved again."""
    again = WAYS[way](fitted[name], tmp_path)

    assert_same(again, fitted[name])
    assert_same(kept(again, tmp_path), fitted[name])


@pytest.mark.parametrize("name", ["transformer", "density", "detector"])
def test_a_loaded_model_can_be_fitted_further_with_identical_results(fitted, name, tmp_path):
    """By fit, partial_fit and sample."""
    models = [fitted[name], kept(fitted[name], tmp_path)]
    if name == "transformer":
        X, Z = rows(50, seed=2), np.zeros((2, fitted[name].architecture_.n_components))
        models = [copy.deepcopy(model).partial_fit(pd.DataFrame(X, columns=list("abcde")))
                  for model in models]  # fmt: skip
        models = [kept(models[0], tmp_path).partial_fit(pd.DataFrame(X, columns=list("abcde"))),
                  models[1].partial_fit(pd.DataFrame(X, columns=list("abcde")))]  # fmt: skip
        np.testing.assert_array_equal(*(model.inverse_transform(Z) for model in models))
    if name != "detector":
        np.testing.assert_array_equal(*(model.sample(5) for model in models))
    again = [clone(model).fit(rows(60)) for model in models]

    np.testing.assert_array_equal(*(model.score_samples(rows(9)) for model in again))


def test_the_setting_of_set_output_is_saved(tmp_path):
    """Pipelines depend on it."""
    vae = VAETransformer(**SMALL).set_output(transform="pandas").fit(rows())

    assert isinstance(kept(vae, tmp_path).transform(rows()), pd.DataFrame)


class Own(VAETransformer):
    """A user's class."""

    def __init__(self, random_state=0):
        super().__init__(2, **{**SMALL, "random_state": random_state})


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
def test_a_wrapped_model_of_a_users_class_is_pickled(way, tmp_path):
    """As processes of joblib need; a file cannot hold it, and the error advises a pickle."""
    imputer = VAEImputer(Own()).fit(rows())
    again = WAYS[way](imputer, tmp_path)

    np.testing.assert_array_equal(again.transform(rows()), imputer.transform(rows()))
    assert type(again.estimator_) is Own
    with pytest.raises(TypeError, match=r"'estimator_' .* Pickle the model instead"):
        imputer.save(tmp_path / "model.vae")


@pytest.mark.parametrize(
    "kind", ["transformer", "conditional", "density", "detector", "novelty", "mixed", "imputer"]
)
def test_golden_files_have_the_recorded_scores(kind):
    """Files in format 1; of an imputer, the rows that it makes."""
    from tests.persistence.golden.make import ROWS, answers

    for scores in sorted(GOLDEN.glob("scores-*.json")):
        number = scores.stem.removeprefix("scores-")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            model = sklearn_vae.load(GOLDEN / f"{kind}-{number}.vae")
        expected = json.loads(scores.read_text())[kind]

        # to the error of a score: a later version may estimate the same density better
        np.testing.assert_allclose(answers(model, ROWS[kind]()[:5]), expected, rtol=1e-2)


def test_every_format_has_golden_files():
    numbers = range(1, file_format.VERSION + 1)

    assert all((GOLDEN / f"transformer-{number}.vae").exists() for number in numbers)


def test_every_public_class_of_a_parameter_is_registered():
    """New likelihoods, priors, networks, posteriors and objectives need @serializable."""
    for module in PARAMETER_MODULES:
        for name in PUBLIC[module]:
            assert is_serializable(getattr(getattr(sklearn_vae, module), name))


def test_load_reads_every_public_estimator():
    """New estimators need an entry in the table of load."""
    names = [name for name in sklearn_vae.__all__ if name.startswith("VAE")]

    assert sorted(ESTIMATORS) == names
    assert all(is_serializable(getattr(sklearn_vae, name)) for name in names)


def test_registered_names_are_unique():
    """A reloaded module may register its classes again."""

    class Gaussian:
        pass

    with pytest.raises(ValueError, match="'Gaussian' is already the name"):
        serializable(Gaussian)
    assert find("Gaussian") is not Gaussian
    assert serializable(find("Gaussian")) is find("Gaussian")
    assert not is_serializable(Gaussian)


# -- what cannot be saved ----------------------------------------------------------------


class CustomNetwork(VAETransformer):
    """A user's own class."""


def test_a_class_without_its_decorator_is_refused_with_what_is_missing(tmp_path):
    """Whoever adds a part reads what is left to do."""

    class Own(StandardNormal):
        pass

    vae = VAETransformer(**SMALL, prior=Own()).fit(rows())
    with pytest.raises(TypeError, match=r"Own\(\) cannot be .*, as its class has no @serializable"):
        vae.save(tmp_path / "model.vae")


def test_an_attribute_that_cannot_be_serialized_is_named(tmp_path):
    """And an existing file is unchanged."""
    path = tmp_path / "model.vae"
    path.write_bytes(b"before")
    with pytest.raises(NotFittedError):
        VAETransformer().save(path)
    schedule = VAETransformer(**SMALL, beta=lambda iteration: 1.0).fit(rows())
    with pytest.raises(TypeError, match=r"parameter 'beta' is <function.*set_params\(beta"):
        schedule.save(path)
    with pytest.raises(TypeError, match="CustomNetwork is a user's class"):
        CustomNetwork(**SMALL).fit(rows()).save(path)
    schedule.extra_ = object()
    with pytest.raises(TypeError, match="attribute 'extra_'"):
        schedule.set_params(beta=1.0).save(path)
    schedule.extra_ = ["caf\udce9"]  # bytes of another encoding, read with surrogateescape
    with pytest.raises(TypeError, match=r"attribute 'extra_'.* it is no Unicode text"):
        schedule.save(path)
    schedule.extra_ = schedule
    with pytest.raises(TypeError, match=r"attribute 'extra_'.*recursion.*Pickle the model"):
        schedule.save(path)

    assert path.read_bytes() == b"before"


@pytest.mark.parametrize(
    "header",
    [pd.MultiIndex.from_tuples([("iris", 1), ("iris", 2), ("leaf", 1)]), [400.0, 400.5, 401.0]],
    ids=["two rows", "wavelengths"],
)
def test_columns_whose_names_are_no_strings_are_saved(header, tmp_path):
    """Likelihoods are requested and columns are scored by them."""
    frame = pd.DataFrame(rows()[:, :3], columns=header)
    vae = VAETransformer(**SMALL, likelihood={header[2]: Gaussian(scale=0.5)}).fit(frame)
    loaded = kept(vae, tmp_path)

    assert loaded.columns_.names == list(header)
    assert loaded.columns_.likelihoods[2] == Gaussian(scale=0.5)
    np.testing.assert_array_equal(loaded.score_samples(frame), vae.score_samples(frame))
    assert loaded.score_samples(frame, columns=[header[2]]).shape == (len(frame),)


UNUSUAL_NAMES = [
    np.nan, np.inf, None, True, np.False_, 2**70, pd.NA, pd.NaT, pd.Timestamp("2020-02-29"),
    pd.Period("2020-02", "M"), pd.Interval(0, 1), ("a", pd.Timestamp("2020-02-29")),
]  # fmt: skip


@pytest.mark.parametrize("name", UNUSUAL_NAMES, ids=repr)
def test_a_column_may_have_any_name_that_pandas_gives(name, tmp_path):
    """Pivoted tables have columns of dates and of missing values; their files could not be read."""
    header = pd.Index([name, 5, 7], dtype=object, tupleize_cols=False)
    frame = pd.DataFrame(rows()[:, :3], columns=header)
    vae = VAETransformer(**SMALL).fit(frame)
    expected = vae.score_samples(frame)
    loaded = reread(vae, tmp_path)

    np.testing.assert_array_equal(loaded.score_samples(frame), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(vae)).score_samples(frame), expected)
    assert [*map(str, loaded.columns_.names)] == [*map(str, vae.columns_.names)]
    pd.testing.assert_index_equal(loaded.sample(2).columns, vae.sample(2).columns)


CATEGORIES = [
    pd.IntervalIndex.from_breaks([0.0, 1.5, 3.0, 9.0]), pd.date_range("2020-01-31", periods=3),
    [date(2020, 1, 31), date(2020, 2, 29)], [Decimal("0.10"), Decimal("0.25")], [True, False],
    [1.5, 2.5], [7, 8, 9],
]  # fmt: skip


@pytest.mark.parametrize("categories", CATEGORIES, ids=str)
def test_categories_of_any_type_that_fit_takes_are_saved(categories, tmp_path):
    """Those of pandas.cut are intervals; their files could not be read."""
    codes = np.arange(60) % len(categories)
    codes[7] = -1
    cut = pd.Categorical.from_codes(codes, pd.Index(categories))
    frame = pd.DataFrame({"x": np.arange(60.0) % 7, "cut": cut})
    vae = VAETransformer(**SMALL).fit(frame)
    loaded = reread(vae, tmp_path)

    expected = vae.score_samples(frame)
    np.testing.assert_array_equal(loaded.score_samples(frame), expected)
    cells = frame.astype(object).to_numpy().tolist()
    with pytest.warns(UserWarning, match="valid feature names"):
        np.testing.assert_array_equal(loaded.score_samples(cells), expected)
    pd.testing.assert_frame_equal(loaded.sample(9), vae.sample(9))
    pd.testing.assert_frame_equal(loaded.impute(frame), vae.impute(frame))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (VAETransformer(**SMALL), "max_iter"),
        (VAEImputer(VAETransformer(**SMALL)), "estimator__max_iter"),
    ],
)
def test_invalid_parameters_are_refused_before_a_file_is_written(model, name, tmp_path):
    """Of the model, or of one that is its parameter: load would refuse them."""
    model = clone(model).fit(rows()).set_params(**{name: -1})
    with pytest.raises(ValueError, match=r"'max_iter' parameter .* Got -1 instead"):
        model.save(tmp_path / "model.vae")

    assert not list(tmp_path.iterdir())
    assert pickle.loads(pickle.dumps(model)).get_params()[name] == -1


def test_callbacks_and_random_states_are_not_saved_and_a_warning_names_them(tmp_path):
    """A fitted model does not need them."""
    random_state = np.random.RandomState(0)
    vae = VAETransformer(**SMALL | {"random_state": random_state}, callbacks=[Callback()])
    vae.fit(rows())
    with pytest.warns(UserWarning, match="left out callbacks, random_state"):
        vae.save(tmp_path / "f")
    loaded = sklearn_vae.load(tmp_path / "f")

    assert loaded.callbacks is loaded.random_state is None
    np.testing.assert_array_equal(loaded.score_samples(rows()), vae.score_samples(rows()))
    assert len(vae.callbacks) == 1


# -- pickles -----------------------------------------------------------------------------


def size_of(weights):
    parts = weights if isinstance(weights, list) else [weights]
    return sum(own.nbytes for part in parts for own in part.values())


@pytest.mark.parametrize(
    "model", [VAETransformer(max_iter=6), VAEDensity(max_iter=3, hidden_layer_sizes=(8,))]
)
@pytest.mark.parametrize("n", [100, 2000])
def test_a_pickle_has_the_size_of_the_parameters_and_5_kb(model, n):
    """For any number of training rows; history_ takes 8 bytes per number that is not constant."""
    model = clone(model).set_params(random_state=0).fit(rows(n))
    room = 5_000 + 100 * len(model.history_)

    assert len(pickle.dumps(model)) < size_of(model.state_dict_) + room
    assert b"torch" not in pickle.dumps(model)


def test_a_file_of_a_detector_holds_its_reference_rows_once(tmp_path):
    """In X's units, whatever the units of distances are."""
    sizes = {}
    for n in (200, 400):
        VAEOutlierDetector(**SMALL, novelty=True).fit(rows(n)).save(tmp_path / "model.vae")
        sizes[n] = (tmp_path / "model.vae").stat().st_size
    per_row = (sizes[400] - sizes[200]) / 200
    n_features = rows(2).shape[1]

    # these and a calibration score, and for each of three tails two numbers at the most
    assert per_row < 8 * (n_features + 1 + 3 * 2) * 1.05


@pytest.mark.parametrize("name", ["transformer", "density", "detector", "novelty"])
def test_joblib_memory_maps_a_model(fitted, name, tmp_path):
    """Several processes share one file, read-only."""
    joblib.dump(fitted[name], tmp_path / "f")
    mapped = joblib.load(tmp_path / "f", mmap_mode="r")
    weights = getattr(mapped, "estimator_", mapped).state_dict_
    weights = weights[0] if isinstance(weights, list) else weights

    assert not weights["encoder.last"].flags.writeable
    assert_same(mapped, fitted[name])
    assert_same(kept(mapped, tmp_path), fitted[name])


@pytest.mark.parametrize("name", MODELS)
def test_skops_asks_for_trust_in_this_packages_classes_only(fitted, name):
    """All others but the type of dtypes are trusted by skops."""
    skops = pytest.importorskip("skops.io")
    data = skops.dumps(fitted[name])
    unknown = skops.get_untrusted_types(data=data)

    assert {own for own in unknown if not own.startswith("sklearn_vae.")} <= {"numpy.dtype"}
    assert_same(skops.loads(data, trusted=unknown), fitted[name])


def test_another_version_is_warned_of(fitted, monkeypatch, tmp_path):
    """With scikit-learn's InconsistentVersionWarning."""
    data = pickle.dumps(fitted["transformer"])
    fitted["transformer"].save(tmp_path / "f")
    monkeypatch.setattr("sklearn_vae.persistence.estimators.__version__", "99.0")
    with pytest.warns(InconsistentVersionWarning, match=r"version 0.* when using version 99.0"):
        pickle.loads(data)
    with pytest.warns(InconsistentVersionWarning, match=r"version 0.* when using version 99.0"):
        sklearn_vae.load(tmp_path / "f")


def test_a_model_of_a_missing_gpu_scores_on_the_cpu(fitted, tmp_path):
    """With one warning, when it is loaded."""
    if __import__("torch").cuda.is_available():
        pytest.skip("there is one")
    X = pd.DataFrame(rows(), columns=list("abcde"))
    expected = fitted["transformer"].score_samples(X)
    vae = copy.deepcopy(fitted["transformer"]).set_params(device="cuda:3")
    with pytest.warns(UserWarning, match=r"The CPU is used instead.*'cuda:3'"):
        again = kept(vae, tmp_path)

    assert again.device == "cuda:3"
    np.testing.assert_array_equal(again.score_samples(X), expected)
    with pytest.raises(ValueError, match="'device' parameter is 'cuda:3'"):
        again.fit(X)


# -- files that somebody made ---------------------------------------------------------------


def changed(path, change):
    """Give a file another header, with a right checksum."""
    header, arrays = file_format.read(path)
    change(header, arrays)
    file_format.write(path, header, arrays)


def put(*keys, value):
    def change(header, arrays):
        for key in keys[:-1]:
            header = header[key]
        header[keys[-1]] = value

    return change


def reshaped(name, shape, dtype=np.float32):
    def change(header, arrays):
        arrays[name] = np.zeros(shape, dtype)

    return change


def many_classes(header, arrays):
    for name in arrays:
        if name.startswith("state_dict_"):
            arrays[name] = arrays[name][:0]
    kind = {"@object": "Categorical", "n_classes": 10**8}
    header["fitted"]["architecture_"]["blocks"] = {"@tuple": [{"@tuple": [kind, 1]}]}


def schema(dtype):
    container = "polars" if "(" in dtype else "pandas"
    kind = "integer" if dtype.startswith("int") else "number"
    fields = [
        {"@object": "Field", "name": own, "logical_type": kind, "categories": None, "dtype": dtype}
        for own in "abcde"
    ]
    return {"@object": "Schema", "fields": {"@tuple": fields}, "container": container}


HUGE = 10**12
FORGERIES = {
    "class": put("class", value="os.system"),
    "parameter": put("parameters", "spam", value=1),
    "wrong parameter": put("parameters", "max_iter", value=-1),
    "list of a list": put("class", value=["VAETransformer"]),
    "attribute": put("fitted", "fit", value=1),
    "dunder": put("fitted", "__class__", value=1),
    "private": put("fitted", "_validate_params", value=1),
    "object": put("fitted", "columns_", value={"@object": "Popen", "args": ["ls"]}),
    "builtin": put("fitted", "columns_", value={"@function": "eval"}),
    "field": put("fitted", "columns_", "spam", value=1),
    "groups that are none": put("fitted", "columns_", "groups", value=[3, 99]),
    "deep": put("fitted", "columns_", value=__import__("functools").reduce(
        lambda inner, _: [inner], range(900), [])),
    "huge latent space": put("fitted", "architecture_", "n_components", value=HUGE),
    "huge layers": put(
        "fitted", "architecture_", "hidden_layer_sizes", value={"@tuple": [HUGE, HUGE]}
    ),
    "many layers": put(
        "fitted", "architecture_", "hidden_layer_sizes", value={"@tuple": [1] * 20_000}
    ),
    "huge blocks": put(
        "fitted", "architecture_", "blocks",
        value={"@tuple": [{"@tuple": [{"@object": "Gaussian"}, HUGE]}]},
    ),
    "dtype": put("fitted", "dtype_", value={"@dtype": "object"}),
    "shape": reshaped("state_dict_.encoder.last", (1, 8, 3)),
    "members": reshaped("state_dict_.encoder.last", (2, 8, 4)),
    "missing": lambda header, arrays: arrays.pop("state_dict_.encoder.last"),
    "scale of zero": reshaped("columns_.groups.0.scale", (3,), np.float64),
    "order that repeats a column": reshaped("columns_.groups.0.indices", (3,), np.int64),
    "seed that is negative": put("fitted", "seed_", value=-1),
    "text": put("fitted", "columns_", "names", value={"@text": ["a" * 50_000, *"b" * 50_000]}),
    "keys of one hash": put("fitted", "columns_", "names", value={
        "@dict": [[own * (2**61 - 1), 0] for own in range(20_000)]
    }),
    "many classes and no member": many_classes,
    **{f"{name} of {value}": put("fitted", "architecture_", name, value=value) for name, value in
       [("n_components", 999), ("n_components", -1), ("blocks", {"@tuple": []}), ("n_factors", 2)]},
    "schema that calls": put("fitted", "schema_", value=schema("read_csv(source='x')")),
    "schema of bytes": put("fitted", "schema_", value=schema("a5")),
    "schema of a file": put("fitted", "schema_", value=schema("dateutil//etc/passwd")),
}  # fmt: skip


@pytest.mark.parametrize("has_torch", [True, False])
@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_file_is_refused(fitted, name, has_torch, tmp_path, monkeypatch):
    """With a valid checksum, in bounded time and memory, also without PyTorch."""
    monkeypatch.setattr("sklearn_vae.inference.fitted_models.has_torch", lambda: has_torch)
    path = tmp_path / "model.vae"
    fitted["transformer"].save(path)
    assert sklearn_vae.load(path).architecture_.n_components == 2
    changed(path, FORGERIES[name])

    tracemalloc.start()
    with pytest.raises(ValueError, match=str(path)) as error:
        sklearn_vae.load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30 << 20
    assert len(str(error.value)) < 1000


def test_a_file_whose_weights_share_an_array_is_refused(tmp_path):
    """Each of them would have a copy of it: hundreds of times the size of the file."""
    path = tmp_path / "model.vae"
    VAEDensity(1, mixtures=[(1, "full")], max_iter=0, random_state=0).fit(rows()).save(path)

    def share(header, arrays):
        weights = header["fitted"]["state_dict_"]
        largest = max(weights.values(), key=lambda weight: arrays[weight["@array"]].nbytes)
        weights.update({f"weight {k}": largest for k in range(10_000)})

    changed(path, share)
    with pytest.raises(ValueError, match="far more memory than the file"):
        sklearn_vae.load(path)
