"""Rows of every kind of column, and models that are read from files."""

import numpy as np

from sklearn_vae import runtime

BY_COLUMN = [
    "gaussian", "lognormal", "bernoulli", "categorical", "ordinal", "poisson",
    "negative_binomial", "zero_inflated", "gaussian", "auto",
]  # fmt: skip


def rows(n_rows=150, missing=0.0):
    """A column for each likelihood, and a constant one: (n, 10)."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, n_rows))
    X = np.column_stack([
        a + 0.3 * rng.normal(size=n_rows), np.exp(b), a > 0, np.digitize(b, [-1, 0, 1]),
        np.digitize(a, [-1, 0, 1]), rng.poisson(np.exp(a)), rng.poisson(3 * np.exp(b)),
        np.where(a > 0.3, b, 0), a + rng.standard_t(2, size=n_rows), np.full(n_rows, 7.0),
    ])  # fmt: skip
    X[rng.random(X.shape) < missing] = np.nan
    return X


def saved(estimator, path):
    """The numpy model of an estimator, by its file."""
    estimator.save(path / "model.vae")
    return runtime.load(path / "model.vae")


def mixed_frame():
    """Numbers, categories and counts, with missing cells: (120, 3)."""
    import pandas as pd

    rng = np.random.default_rng(0)
    size = rng.normal(size=120)
    colour = np.where(size > 0, "red", np.where(rng.random(120) > 0.5, "blue", "green"))
    frame = pd.DataFrame({"size": size, "colour": colour, "n": rng.poisson(3, 120)})
    frame.loc[3, "size"], frame.loc[5, "colour"] = np.nan, None
    return frame
