"""A row of weight k is k rows: in every part of a fit, also where cells are missing."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from torch import nn

from sklearn_vae import VAEClassifier, VAEDensity, VAEImputer, VAEOutlierDetector, VAETransformer
from sklearn_vae.networks import CustomNetwork
from sklearn_vae.numerics.random import Stream, make_generator
from sklearn_vae.priors import MixturePrior
from sklearn_vae.training.dataset import Dataset

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.usefixtures("few_steps")

RNG = np.random.default_rng(0)
# as many copies as fit one batch, in which every row has the same noise
WEIGHT = RNG.integers(0, 4, 120)
BATCH = {"batch_size": 512, "hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}


def bent(n=120):
    """Rows around a curve in four columns, and which half they are of."""
    a = RNG.normal(size=(n, 1))
    X = np.hstack([a, a**2, np.sin(2 * a), 1 - a]) + 0.3 * RNG.normal(size=(n, 4))
    return X, (a[:, 0] > 0).astype(int)


X, Y = bent()
HOLEY = np.where(RNG.random(X.shape) < 0.2, np.nan, X)

CASES = {
    "whole rows": ({}, X),
    "missing cells": ({}, HOLEY),
    "missing cells and validation": ({"early_stopping": True}, HOLEY),
    "validation": ({"early_stopping": True, "refit": False}, X),
    "two columns": ({}, X[:, 2:]),
    "light tails": ({"early_stopping": True}, np.sin(3 * X)),
    "several starts": ({"n_init": 2, "ensemble": True}, X),
    "a learned prior": ({"prior": MixturePrior(3)}, HOLEY),
    "classes": ({"posterior": "categorical", "n_components": 3}, HOLEY),
    "conditional": ({"conditional": True}, HOLEY),
    "the automatic size": ({"n_components": "auto"}, HOLEY),
    "importance weights": ({"objective": "iwae"}, X),
    "autograd": ({"network": CustomNetwork(nn.Linear)}, HOLEY),
}


def assert_copies(estimator, X, y=None, weight=WEIGHT, atol=1e-6):
    """A weighted fit is the fit of the copies: scores, codes, losses and their number."""
    weighted = clone(estimator).fit(X, y, sample_weight=weight)
    copied = clone(estimator).fit(
        np.repeat(X, weight, axis=0), None if y is None else np.repeat(y, weight)
    )
    fresh = bent(20)[0][:, : X.shape[1]]

    assert [len(own.history_) for own in (weighted, copied)] == [copied.n_iter_] * 2
    for one, other in zip(weighted.history_, copied.history_, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    np.testing.assert_allclose(
        weighted.score_samples(fresh), copied.score_samples(fresh), rtol=1e-6, atol=atol
    )


@pytest.mark.parametrize("name", CASES)
def test_a_weighted_fit_is_the_fit_of_repeated_rows(name):
    """As the table of the copies, which lie side by side."""
    params, rows = CASES[name]
    estimator = VAETransformer(**{"n_components": 2, **BATCH, **params})

    assert_copies(estimator, rows, Y if params.get("conditional") else None)


@pytest.mark.parametrize("rows", [X, HOLEY], ids=["whole rows", "missing cells"])
def test_a_weighted_density_is_that_of_repeated_rows(rows):
    """Its mixtures, the weights of its members, and their training."""
    assert_copies(VAEDensity(2, mixtures=[(1, "full"), (8, "diag")], **BATCH), rows)


def test_the_sum_of_weights_decides_about_validation_rows():
    """60 rows of weight 2 are 120 rows, of which some are set aside by default."""
    vae = VAETransformer(2, **BATCH)

    assert_copies(vae, X[:60], weight=np.full(60, 2))
    assert "val_loss" in vae.fit(X[:60], sample_weight=np.full(60, 2)).history_[0]
    assert "val_loss" not in vae.fit(X[:60]).history_[0]


def test_a_classifier_and_an_imputer_treat_weights_as_repeated_rows():
    """They hand them on, and choose by them what they choose themselves."""
    own = VAETransformer(2, conditional=True, **BATCH)
    for estimator, method, y in [
        (VAEClassifier(own), "predict_log_proba", Y),
        (VAEImputer(random_state=0), "transform", None),
    ]:
        rows = HOLEY[:40]
        weighted = clone(estimator).fit(rows, None if y is None else y[:40], WEIGHT[:40])
        copied = clone(estimator).fit(
            np.repeat(rows, WEIGHT[:40], axis=0),
            None if y is None else np.repeat(y[:40], WEIGHT[:40]),
        )
        np.testing.assert_allclose(
            getattr(weighted, method)(HOLEY), getattr(copied, method)(HOLEY), rtol=0, atol=1e-4
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_a_split_holds_out_the_requested_weight(dtype, scale):
    """All weight is in one half or the other, to the last copy, or to the nearest row."""
    counts = scale * RNG.integers(1, 6, 50)
    weight = torch.as_tensor(counts / counts.mean()).to(dtype)
    table = Dataset.from_x(torch.randn(50, 2).to(dtype), weight, float(counts.sum()), 0.0)
    halves = table.split(9, make_generator(0, Stream.SPLIT))
    found = np.zeros(50)
    for half in halves:
        found[half.indices().numpy()] += half.sample_weight()

    np.testing.assert_allclose(found, counts, rtol=1e-4)
    assert halves[1].total_weight[0] == pytest.approx(9, abs=scale * 3 if scale < 1 else 1e-3)
    if scale < 1:  # no copies, so that nothing that is trained on is validated on
        assert not set(halves[0].indices().tolist()) & set(halves[1].indices().tolist())


def test_the_number_of_held_out_copies_is_hypergeometric():
    """How many of a row's copies are set aside is hypergeometric, as for copies."""
    counts = np.array([20.0, 5, 15])
    table = Dataset.from_x(torch.zeros(3, 1), torch.as_tensor(counts / counts.mean()), 40.0, 0.0)
    aside = []
    for seed in range(400):
        half = table.split(10, make_generator(seed, Stream.SPLIT))[1]
        aside.append(
            dict(zip(half.indices().tolist(), half.sample_weight(), strict=True)).get(0, 0.0)
        )

    law = stats.hypergeom(40, 20, 10)
    assert np.mean(aside) == pytest.approx(law.mean(), abs=4 * law.std() / 20)
    assert np.std(aside) == pytest.approx(law.std(), rel=0.15)


@pytest.mark.parametrize(
    "estimator",
    [
        VAETransformer(1, **BATCH),
        VAEDensity(max_iter=0, random_state=0),
        VAEOutlierDetector(random_state=0),
    ],
    ids=repr,
)
def test_categories_of_rows_of_weight_0_do_not_count(estimator, rng):
    """They are not seen, as any other value of such a row."""
    table = pd.DataFrame({"x": rng.normal(size=60), "kind": rng.choice(["a", "b"], 60)})
    table.loc[[0, 30], "kind"] = "z"
    weight = np.where(table["kind"] == "z", 0.0, 1.0)
    rest = table[weight > 0]
    weighted = clone(estimator).fit(table, sample_weight=weight)
    without = clone(estimator).fit(rest)

    np.testing.assert_array_equal(weighted.score_samples(table), without.score_samples(table))


def test_rows_of_weight_0_with_other_categories_raise_no_error(rng):
    """Where unseen categories are errors, and indicators see all rows."""
    table = pd.DataFrame({"x": rng.normal(size=60), "kind": rng.choice(["a", "b"], 60)})
    table.loc[3, ["x", "kind"]] = np.nan, "z"
    weight = np.where(table["kind"] == "z", 0.0, 1.0)
    model = VAETransformer(1, handle_unknown="error", **BATCH)
    of_frame = clone(model).fit(table, sample_weight=weight)
    imputer = VAEImputer(model, add_indicator=True).fit(table, sample_weight=weight)
    rows = table.astype(object).values.tolist()
    of_list = clone(model).fit(rows, sample_weight=pd.Series(weight, dtype=object))

    assert of_frame.schema_.fields[1].categories == ("a", "b")
    assert imputer.indicated_.tolist() == []
    assert of_list.schema_.fields[1].categories == ("a", "b")


@pytest.mark.parametrize("cls", [VAETransformer, VAEDensity, VAEImputer, VAEClassifier])
def test_weights_that_sum_to_less_than_a_row_are_warned_of_once(cls):
    """As weights that sum to one in the whole table, in a fold; whole numbers beside classes."""
    table = pd.DataFrame({"age": (40 + 10 * X[:, 0]).round(), "kind": np.where(Y, "a", "b")})
    weight = np.full(len(table), 0.3 / len(table))

    with pytest.warns(UserWarning, match="Divide it by its mean") as record:
        cls().fit(table, Y, sample_weight=weight)

    assert [each.category for each in record] == [UserWarning]


@pytest.mark.parametrize("cls", [VAETransformer, VAEDensity])
def test_a_table_that_was_repeated_is_read_as_once(cls):
    """Numbers and labels that recur as every row was repeated are no point masses and no rules."""
    train, new = (pd.DataFrame(bent()[0], columns=[*"abcd"]) for _ in range(2))
    train["class"], new["class"] = RNG.choice([*"xyz"], (2, len(train)))
    once = cls(random_state=0).fit(train)
    for fit in ((pd.concat([train] * 10),), (train, None, np.full(len(train), 10.0))):
        model = cls(random_state=0).fit(*fit)

        assert model.columns_.likelihoods == once.columns_.likelihoods
        assert not model.columns_.many_to_one
        assert model.score(new) > once.score(new) - 1.5  # rows to validate are not trained on


def test_new_rows_of_a_repeated_table_are_normal():
    """A copy of a row is no neighbour by which others would be too far away."""
    detector = VAEOutlierDetector(novelty=True, random_state=0)
    for fit in ((np.repeat(X, 2, axis=0), None, None), (X, None, np.full(len(X), 2.0))):
        flagged = (detector.fit(*fit).predict(bent(1000)[0]) == -1).mean()

        assert flagged < 0.12
