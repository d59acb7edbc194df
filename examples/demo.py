"""The main job on a real table: search, compare, compress, and look.

    python examples/demo.py          # or: make demo

On scikit-learn's digits (1,797 pictures of 8 × 8 pixels):

1. One line of `GridSearchCV` chooses the latent size and beta by held-out log-likelihood.
2. The model that it found is compared, on rows that no model has seen, with a `GaussianMixture`
   chosen by BIC and a `FactorAnalysis` chosen by the same cross-validation.
3. Its codes are compared with those of a PCA of the same size: how much of a row comes back?
4. `demo.png`, written into the current folder, shows the latent space of a model with two
   components, and how it was trained.

All models see the same rows and the same standardized columns, so their scores are in the same
units: nats per row, for a density of the standardized columns. A density of integers has no upper
limit, so each grey level is first spread, for all models alike, over the unit that it stands for.
"""

import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_vae import VAETransformer

mpl.use("Agg")  # a file, not a window
import matplotlib.pyplot as plt

PICTURE = Path("demo.png")
FOLDS = 3
VAE_GRID = {"vaetransformer__n_components": [2, 4, 8], "vaetransformer__beta": [0.5, 1, 2]}
MIXTURE_GRID = {
    "gaussianmixture__n_components": [1, 2, 3, 5, 7, 10, 15, 20, 30],
    "gaussianmixture__covariance_type": ["full", "tied", "diag", "spherical"],
}
FACTORS_GRID = {"factoranalysis__n_components": [4, 8, 16, 32]}
Lines = dict[str, tuple[str, str]]  # a column of the history: its label and its colour
BLUE, RED, GREEN, GREY = "#2b6f9e", "#c2452d", "#3d8a5a", "0.45"


# The table


def load_rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows, held-out rows, and which digits the held-out ones show."""
    X, digit = load_digits(return_X_y=True)
    X = X + np.random.default_rng(0).uniform(size=X.shape)
    X_train, X_test, _, digit = train_test_split(
        X, digit, test_size=0.2, stratify=digit, random_state=0
    )
    return X_train, X_test, digit


# The models, each with its usual way of choosing


def search_vae(X: np.ndarray) -> GridSearchCV:
    """Choose by cross-validation; the score is a held-out log-likelihood, so no scorer is named."""
    pipeline = make_pipeline(StandardScaler(), VAETransformer(random_state=0))
    return GridSearchCV(pipeline, VAE_GRID, cv=FOLDS, n_jobs=2).fit(X)


def choose_mixture(X: np.ndarray) -> Pipeline:
    """Choose the number of components and the covariance type by BIC on all rows."""
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(random_state=0))
    all_rows = [(np.arange(len(X)), np.arange(len(X)))]
    search = GridSearchCV(pipeline, MIXTURE_GRID, scoring=minus_bic, cv=all_rows, n_jobs=2)
    return search.fit(X).best_estimator_


def minus_bic(mixture: Pipeline, X: np.ndarray, _y: None = None) -> float:
    return -mixture[-1].bic(mixture[:-1].transform(X))


def choose_factors(X: np.ndarray) -> Pipeline:
    """Choose the number of factors by cross-validation."""
    pipeline = make_pipeline(StandardScaler(), FactorAnalysis(random_state=0))
    return GridSearchCV(pipeline, FACTORS_GRID, cv=FOLDS, n_jobs=2).fit(X).best_estimator_


# What is printed


def show_search(search: GridSearchCV, seconds: float) -> None:
    """Print the score of every setting, and the best."""
    results = pd.DataFrame(search.cv_results_["params"]).rename(columns=short)
    results["nats"] = search.cv_results_["mean_test_score"]
    print(f"\nThe search: {len(results)} settings, {FOLDS} folds, {seconds:.0f} s.")
    print("Nats per row of the fold left out:\n")
    show(results.pivot(index="n_components", columns="beta", values="nats").round(2))
    print(f"\nBest: { ({short(name): value for name, value in search.best_params_.items()}) }")


def show_densities(vae: Pipeline, mixture: Pipeline, factors: Pipeline, X: np.ndarray) -> None:
    """Print what each model scores on the held-out rows."""
    names = [
        f"VAETransformer, {vae[-1].n_components} components, beta {vae[-1].beta}",
        f"GaussianMixture, {mixture[-1].n_components} of type {mixture[-1].covariance_type}",
        f"FactorAnalysis, {factors[-1].n_components} components",
    ]
    nats = [model.score(X) for model in (vae, mixture, factors)]
    print("\nNats per held-out row, for a density of the standardized columns (more is better):\n")
    show(pd.DataFrame(nats, index=names).round(2), header=False)


def show_codes(vaes: list[Pipeline], X_train: np.ndarray, X_test: np.ndarray) -> None:
    """Print how well rows come back from their codes, beside PCA's."""
    table = pd.DataFrame(columns=["VAETransformer", "PCA"])
    for vae in vaes:
        size = vae[-1].n_components
        pca = make_pipeline(StandardScaler(), PCA(size)).fit(X_train)
        table.loc[f"{X_train.shape[1]} columns in {size}"] = lost(vae, X_test), lost(pca, X_test)
    print("\nMean squared error of held-out rows that come back from their codes, in units of")
    print("the standardized columns (the column means alone have 1):\n")
    show(table.astype(float).round(3))


def lost(model: Pipeline, X: np.ndarray) -> float:
    """Mean squared error of the way to codes and back."""
    Z = model[:-1].transform(X)
    return np.square(Z - model[-1].inverse_transform(model[-1].transform(Z))).mean()


def short(name: str) -> str:
    return name.removeprefix("vaetransformer__")


def show(table: pd.DataFrame, header: bool = True) -> None:
    print("    " + table.to_string(header=header).replace("\n", "\n    "))


# The picture


def draw(vae: Pipeline, X: np.ndarray, digit: np.ndarray) -> None:
    """Write the latent space and the training curves of a model with two components."""
    with plt.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        figure = plt.figure(figsize=(12, 6), layout="constrained")
        grid = figure.add_gridspec(2, 2, width_ratios=[1.2, 1])
        draw_codes(figure.add_subplot(grid[:, 0]), vae.transform(X), digit)
        history = pd.DataFrame(vae[-1].history_).set_index("iteration")
        losses = {"loss": ("training rows", BLUE), "val_loss": ("validation rows", RED)}
        draw_history(figure.add_subplot(grid[0, 1]), history, losses, "Loss in nats")
        parts = {"reconstruction_loss": ("reconstruction", BLUE), "kl_loss": ("KL", GREEN)}
        draw_history(figure.add_subplot(grid[1, 1]), history, parts, "Its two parts")
        figure.savefig(PICTURE, dpi=150)
        plt.close(figure)


def draw_codes(axes: Axes, Z: np.ndarray, digit: np.ndarray) -> None:
    """Write each row's digit, in its colour, where the row's code is."""
    axes.scatter(*Z.T, s=0)  # so that the axes fit the codes
    for (x, y), label in zip(Z, digit, strict=True):
        colour = plt.colormaps["tab10"](label)
        axes.text(x, y, str(label), color=colour, size=9, weight="bold", ha="center", va="center")
    axes.set(xlabel="first component", ylabel="second component")
    axes.set_title("Codes of held-out rows (no label was seen in training)", loc="left")


def draw_history(axes: Axes, history: pd.DataFrame, lines: Lines, title: str) -> None:
    """Draw columns of the history, interrupted where training begins again on all rows."""
    refit = history["refit"]
    last = refit.idxmax() - 1
    for name, (label, colour) in lines.items():
        axes.plot(history[name].where(~refit), color=colour)
        axes.plot(history[name].where(refit), color=colour)
        first = 1 + last // 4  # from here on a curve falls below its label
        options = {"color": colour, "textcoords": "offset points"}
        axes.annotate(label, (first, history[name][first]), (4, 10), **options)
    axes.axvline(last + 0.5, color=GREY, linewidth=0.8, linestyle=":")
    above = {"transform": axes.get_xaxis_transform(), "ha": "right"}
    axes.text(last, 1.02, "then on all rows →", color=GREY, **above)
    axes.set_title(title, loc="left")
    axes.set_xlabel("iteration")


def main() -> None:
    X_train, X_test, digit = load_rows()
    print(f"Digits: {X_train.shape[1]} columns, {len(X_train)} rows to learn from, ", end="")
    print(f"{len(X_test)} held out.", flush=True)

    start = time.perf_counter()
    search = search_vae(X_train)
    show_search(search, time.perf_counter() - start)
    best = search.best_estimator_
    show_densities(best, choose_mixture(X_train), choose_factors(X_train), X_test)

    flat = make_pipeline(StandardScaler(), VAETransformer(n_components=2, random_state=0))
    flat.fit(X_train)
    show_codes([flat, best], X_train, X_test)
    draw(flat, X_test, digit)
    print(f"\nThe latent space and the training curves: {PICTURE.resolve()}")


if __name__ == "__main__":
    main()
