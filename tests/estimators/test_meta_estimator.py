"""VAEImputer and VAEClassifier: messages about rows name them, and not the model that they fit."""

import signal
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from skorch.callbacks import Callback

from sklearn_vae import VAEClassifier, VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.usefixtures("few_steps")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = np.repeat([0, 1], 20)
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
MODELS = {
    "transformer": VAETransformer(1, max_iter=1),
    "density": VAEDensity(1, mixtures=[(1, "full")], max_iter=0),
}
WRONG_IN_FIT = {
    "no rows": np.empty((0, 3)),
    "one row": X[:1],
    "one row of a frame": FRAME.assign(b="x")[:1],
    "three dimensions": X[:, :, None],
    "no columns": np.empty((40, 0)),
}
WRONG_LATER = {
    "one column less": (X, X[:, :2]),
    "one column more": (X, RNG.normal(size=(3, 4))),
    "no rows": (X, X[:0]),
    "no rows of a frame": (FRAME.assign(b="x"), FRAME.assign(b="x")[:0]),
}


def fit(estimator, X):
    """Fit with as many classes as there are rows."""
    return (
        estimator.fit(X, Y[: len(X)]) if isinstance(estimator, VAEClassifier) else estimator.fit(X)
    )


def use(estimator):
    """Return the method of new rows."""
    return estimator.predict if isinstance(estimator, VAEClassifier) else estimator.transform


def check_names(estimator, message):
    """The message names the estimator, and none that it has fitted."""
    assert type(estimator).__name__ in message
    for other in {"VAETransformer", "VAEDensity", "VAEImputer", "VAEClassifier"} - {
        type(estimator).__name__
    }:
        assert other not in message


@pytest.mark.parametrize("wrong", WRONG_IN_FIT)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("cls", [VAEImputer, VAEClassifier])
def test_errors_of_fit_name_the_estimator_that_was_called(cls, model, wrong):
    estimator = cls(MODELS[model], random_state=0)
    with pytest.raises(ValueError) as error:
        fit(estimator, WRONG_IN_FIT[wrong])

    check_names(estimator, str(error.value))


@pytest.mark.parametrize("wrong", WRONG_LATER)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("cls", [VAEImputer, VAEClassifier])
def test_errors_of_later_rows_name_the_estimator_that_was_called(cls, model, wrong):
    table, rows = WRONG_LATER[wrong]
    estimator = fit(cls(MODELS[model], random_state=0), table)
    with pytest.raises(ValueError) as error:
        use(estimator)(rows)

    check_names(estimator, str(error.value))


class PressCtrlC(Callback):
    """Ctrl-C in the second iteration."""

    def on_epoch_end(self, net, **kwargs):
        """Raise the signal."""
        if len(net.history) == 2:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("action", ["always", "error"])
@pytest.mark.parametrize("cls", [VAEImputer, VAEClassifier])
def test_ctrl_c_names_the_estimator_that_was_called_once(cls, action):
    """The model warned for itself. A fit stops also where warnings are errors."""
    model = VAETransformer(1, early_stopping=False, callbacks=[PressCtrlC()])
    estimator = cls(model, random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        with pytest.raises(KeyboardInterrupt):
            fit(estimator, X)

    messages = [str(each.message) for each in caught if each.category is ConvergenceWarning]
    assert len(messages) == (action == "always")
    for message in messages:
        assert message.startswith(f"{cls.__name__}.fit was interrupted")
        check_names(estimator, message)
    assert estimator.estimator_.interrupted_
    assert len(use(estimator)(X)) == len(X)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("cls", [VAEImputer, VAEClassifier])
def test_the_reading_of_columns_is_that_of_the_model(cls, kind):
    """Users look at ``columns_`` after any fit, whatever model is within."""
    fitted = cls(MODELS[kind]).fit(FRAME, Y)

    for name in ("columns_", "n_components_", "n_iter_"):
        assert getattr(fitted, name) is getattr(fitted.estimator_, name)
        assert not hasattr(cls(), name)


@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (VAETransformer(), "n_components_"),
        (VAETransformer(), "prior_"),
        (VAETransformer(), "posterior_"),
        (VAEDensity(), "n_components_"),
        (VAEImputer(), "columns_"),
        (VAEClassifier(), "n_components_"),
        (VAEOutlierDetector(), "n_iter_"),
    ],
)
def test_fitted_attributes_before_fit_say_that_there_was_none(estimator, name):
    """And not that an internal attribute is missing; hasattr is False."""
    with pytest.raises(
        NotFittedError, match=f"This {type(estimator).__name__} instance is not fit"
    ):
        getattr(estimator, name)

    assert not hasattr(estimator, name)
