"""Robust fits: tables in which outliers cannot be told from other rows."""

import signal
import sys

import numpy as np
import pytest
from skorch.callbacks import Callback
from torch import nn

from sklearn_vae import VAETransformer
from sklearn_vae.estimators.robust import weighted_median

pd = pytest.importorskip("pandas")

RARE = [0.6, 0.25, 0.1, 0.05]  # probabilities of four classes


@pytest.mark.parametrize("n_columns", [1, 2])
def test_tables_of_rare_classes_are_refused(n_columns, rng):
    """Most rows are the same one, and those with a rarer class would all be left out."""
    X = pd.DataFrame({f"c{j}": rng.random(200) < 0.2 for j in range(n_columns)})
    robust = VAETransformer(1, hidden_layer_sizes=8, max_iter=5, robust=True, random_state=0)

    with pytest.raises(ValueError, match=r"'robust' parameter of VAETransformer .* rarer ones"):
        robust.fit(X)
    assert not hasattr(robust, "support_")


def test_numbers_keep_rare_classes_beside_them(rng):
    """Almost all rows are kept, those of the rarer class as well."""
    numbers = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 5)) + 0.3 * rng.normal(size=(300, 5))
    X = pd.DataFrame(numbers, columns=list("abcde")).assign(c=rng.random(300) < 0.2)
    robust = VAETransformer(2, max_iter=20, robust=True, random_state=0).fit(X)

    assert robust.support_.mean() > 0.95
    assert robust.support_[X.c].mean() > 0.8


def test_rare_classes_are_no_outliers_beside_a_single_number(rng):
    """Nor are rare values of a normal column, but those far away."""
    X = pd.DataFrame({"x": rng.normal(size=500), "c": rng.choice(list("abcd"), 500, p=RARE)})
    X.loc[:9, "x"] += 20
    robust = VAETransformer(1, max_iter=20, robust=True, random_state=0).fit(X)

    assert not robust.support_[:10].any()
    assert robust.support_[10:].mean() > 0.95
    assert robust.support_[10:][X.c[10:] == "d"].mean() > 0.9


def test_columns_may_have_names_of_several_levels(rng):
    """They are tuples, of which numpy makes a matrix."""
    X = pd.DataFrame({("a", "x"): rng.normal(size=150), ("a", "c"): rng.random(150) < 0.3})
    robust = VAETransformer(1, max_iter=1, robust=True, random_state=0).fit(X)

    assert robust.support_.mean() > 0.9


def test_a_weighted_median_is_that_of_repeated_values(rng):
    """Numpy's, for whole weights of an even and of an odd sum."""
    values, weights = rng.normal(size=8), np.array([1, 3, 2, 2, 1, 4, 1, 2])

    for n in (7, 8):
        expected = np.median(np.repeat(values[:n], weights[:n]))
        assert weighted_median(values[:n], weights[:n]) == expected


def test_callbacks_are_called_in_the_fit_only(rng):
    """They need not be copied, either."""

    class Count(Callback):
        def __init__(self, file):
            self.file, self.n_calls = file, 0

        def on_train_begin(self, net, **kwargs):
            self.n_calls += 1

    X = rng.normal(size=(60, 2))
    counts = [Count(sys.stdout), Count(sys.stdout)]
    for count, robust in zip(counts, (False, True), strict=True):
        vae = VAETransformer(1, hidden_layer_sizes=4, max_iter=1, robust=robust, random_state=0)
        vae.set_params(callbacks=[count]).fit(X)
    assert counts[0].n_calls == counts[1].n_calls


def test_ctrl_c_while_outliers_are_searched_for_leaves_no_model(rng, recwarn):
    """And no word of one."""
    vae = VAETransformer(1, encoder=PressesCtrlC, max_iter=9, robust=True, random_state=0)
    vae.set_params(early_stopping=False)  # more iterations than one
    PressesCtrlC.n_left = 60
    with pytest.raises(KeyboardInterrupt):
        vae.fit(rng.normal(size=(60, 2)))

    assert not hasattr(vae, "n_iter_")
    assert not [warning for warning in recwarn if "interrupted" in str(warning.message)]


class PressesCtrlC(nn.Linear):
    """An encoder during one of whose calls Ctrl-C is pressed."""

    n_left = 0

    def forward(self, x):
        PressesCtrlC.n_left -= 1
        if PressesCtrlC.n_left == 0:
            signal.raise_signal(signal.SIGINT)
        return super().forward(x)
