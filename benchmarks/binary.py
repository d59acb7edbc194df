"""Densities of binary tables (DEBD) beside trees, mixtures and the best published models.

    python benchmarks/binary.py                     # five tables, some 45 minutes
    python benchmarks/binary.py --tables nltcs      # one of them
    python benchmarks/binary.py --max-rows 2000     # the first training rows of each

Splits are fixed. Peers are fitted to the training rows: a Chow-Liu tree (Chow and Liu, 1968), and a
mixture of Bernoulli distributions whose number of components is chosen by the validation rows.
Published are the best results of tractable models. `VAETransformer` and `VAEDensity` are fitted to
training and validation rows, and choose validation rows by themselves.

"Joined" is `VAEDensity(n_components=16)` of a data frame whose columns are classes: the rows of
several binary columns that depend on each other, of at most 32 different ones. Where rows follow
rules from column to column, as those of accidents do, it is ahead of the columns by themselves. A
new row of a class has the probability of an unseen value, in equal parts of all that it may have.

Figures are mean test log-densities in nats, and CPU seconds of fit and scores.
"""

import argparse
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
from common import table, timed
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from scipy.special import logsumexp, xlogy
from scipy.stats import entropy
from tables import DATA

from sklearn_vae import VAEDensity, VAETransformer

# Best test nats of tractable models in the literature, by table.
PUBLISHED = {
    "nltcs": -6.00, "plants": -12.67, "jester": -52.82, "accidents": -26.55, "dna": -81.28,
}  # fmt: skip
N_COMPONENTS = (1, 2, 5, 10, 20, 50, 100, 200)
MAX_ITER = 200
MAX_LEVELS = 32  # of joined columns

Scores = Callable[[np.ndarray], np.ndarray]


def load(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return training, validation and test rows of zeros and ones."""
    with np.load(DATA / "binary" / f"{name}.npz") as file:
        n_columns = int(file["n_columns"])
        parts = (file[part] for part in ("train", "valid", "test"))
        train, valid, test = (np.unpackbits(x, axis=1, count=n_columns) for x in parts)
    return train.astype(float), valid.astype(float), test.astype(float)


def chow_liu(train: np.ndarray, valid: np.ndarray) -> Scores:
    """Fit the tree of columns with the largest sum of mutual information, with one added count."""
    X = np.vstack([train, valid])
    n_rows, n_columns = X.shape
    counts = np.empty((2, 2, n_columns, n_columns))
    for a, left in enumerate((1 - X, X)):
        for b, right in enumerate((1 - X, X)):
            counts[a, b] = left.T @ right + 0.25
    joint = counts / (n_rows + 1)
    marginal = np.stack([1 - (X.sum(0) + 0.5) / (n_rows + 1), (X.sum(0) + 0.5) / (n_rows + 1)])
    product = marginal[:, None, :, None] * marginal[None, :, None, :]
    information = (xlogy(joint, joint) - xlogy(joint, product)).sum((0, 1))
    tree = minimum_spanning_tree(-np.triu(information, 1) - 1e-12)
    order, parent = breadth_first_order(tree, 0, directed=False)
    children = order[1:]
    conditional = np.log(joint / marginal[:, None, :, None])  # (parent's value, own, parent, own)

    def scores(X: np.ndarray) -> np.ndarray:
        x = X.astype(int)
        total = np.log(marginal[x[:, order[0]], order[0]])
        for child in children:
            above = parent[child]
            total += conditional[x[:, above], x[:, child], above, child]
        return total

    return scores


def bernoulli_mixture(train: np.ndarray, valid: np.ndarray) -> Scores:
    """Fit mixtures of Bernoulli distributions by EM, and take the best on the validation rows."""
    fits = [_expectation_maximization(train, k) for k in N_COMPONENTS]
    return max(fits, key=lambda scores: scores(valid).mean())


def _expectation_maximization(X: np.ndarray, n_components: int) -> Scores:
    """Fit a mixture of Bernoulli distributions, with half a count of each value added."""
    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.ones(n_components), len(X))

    def log_joint(x: np.ndarray) -> np.ndarray:
        return log_weight + x @ (np.log(p) - np.log1p(-p)).T + np.log1p(-p).sum(1)

    last = -np.inf
    for _ in range(MAX_ITER):
        total = share.sum(0)
        p = (share.T @ X + 0.5) / (total[:, None] + 1)
        log_weight = np.log((total + 1) / (total.sum() + n_components))
        joint = log_joint(X)
        log_density = logsumexp(joint, axis=1, keepdims=True)
        share = np.exp(joint - log_density)
        if log_density.mean() - last < 1e-4:
            break
        last = log_density.mean()

    return lambda x: logsumexp(log_joint(x), axis=1)


def ours(make: Callable) -> Callable[[np.ndarray, np.ndarray], Scores]:
    """Return a function that fits an estimator to training and validation rows."""
    return lambda train, valid: make(random_state=0).fit(np.vstack([train, valid])).score_samples


def joined(train: np.ndarray, valid: np.ndarray) -> Scores:
    """Fit ``VAEDensity`` to classes that columns are joined to."""
    X = np.vstack([train, valid])
    groups = join_columns(X)
    seen = as_classes(X, groups)
    model = VAEDensity(n_components=16, random_state=0).fit(seen)
    n_unseen = [2.0 ** len(group) - seen[name].nunique() for name, group in groups.items()]

    def scores(X: np.ndarray) -> np.ndarray:
        table = as_classes(X, groups)
        is_unseen = np.column_stack([~table[name].isin(seen[name]) for name in groups])
        return model.score_samples(table) - is_unseen @ np.log(np.maximum(n_unseen, 1))

    return scores


def join_columns(X: np.ndarray) -> dict[str, list[int]]:
    """Join columns to classes, the two of the largest gain by Schwarz's criterion at a time."""
    n_rows = len(X)
    groups = {(j,): X[:, j].astype(int) for j in range(X.shape[1])}

    def join(a: tuple[int, ...], b: tuple[int, ...]) -> np.ndarray:
        return np.unique(groups[a] * (groups[b].max() + 1) + groups[b], return_inverse=True)[1]

    def gain(a: tuple[int, ...], b: tuple[int, ...]) -> float:
        together, parts = join(a, b), (groups[a], groups[b])
        n_levels = [codes.max() + 1 for codes in (together, *parts)]
        if n_levels[0] > MAX_LEVELS:
            return -np.inf
        entropies = [entropy(np.bincount(codes)) for codes in (together, *parts)]
        information = entropies[1] + entropies[2] - entropies[0]
        n_params = n_levels[0] - n_levels[1] - n_levels[2] + 1
        return n_rows * information - 0.5 * np.log(n_rows) * n_params

    gains = {pair: gain(*pair) for pair in combinations(groups, 2)}
    while gains and gains[pair := max(gains, key=gains.__getitem__)] > 0:
        codes, (a, b) = join(*pair), pair
        gains = {other: g for other, g in gains.items() if not {a, b} & {*other}}
        del groups[a], groups[b]
        others, new = [*groups], (*a, *b)
        groups[new] = codes
        gains |= {(other, new): gain(other, new) for other in others}
    return {"+".join(map(str, sorted(group))): sorted(group) for group in groups}


def as_classes(X: np.ndarray, groups: dict[str, list[int]]) -> pd.DataFrame:
    """Write the rows of each group of columns as texts of zeros and ones."""
    digits = np.where(X > 0, "1", "0")
    return pd.DataFrame({name: map("".join, digits[:, group]) for name, group in groups.items()})


MODELS = {
    "Chow-Liu tree": chow_liu,
    "Bernoulli mixture": bernoulli_mixture,
    "VAETransformer": ours(VAETransformer),
    "VAEDensity": ours(VAEDensity),
    "joined": joined,
}


def evaluate(fit: Callable, train: np.ndarray, valid: np.ndarray, test: np.ndarray) -> str:
    """Return the mean test log-density, its standard error and the CPU seconds as text."""
    seconds, scores = timed(lambda: fit(train, valid)(test))
    error = scores.std() / np.sqrt(len(scores))
    return f"{scores.mean():.2f} ± {error:.2f} ({seconds:.0f} s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tables", type=lambda text: text.split(","), default=list(PUBLISHED))
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(MODELS))
    parser.add_argument("--max-rows", type=int, default=None)
    args = parser.parse_args()
    rows = []
    for name in args.tables:
        if not (DATA / "binary" / f"{name}.npz").exists():
            print(f"{name}: no file in {DATA / 'binary'}")
            continue
        train, valid, test = load(name)
        train = train[: args.max_rows]
        cells = [f"{name}, {len(train)} × {train.shape[1]}", f"{PUBLISHED[name]:.2f}"]
        for model in args.models:
            cells.append(evaluate(MODELS[model], train, valid, test))
            print(" | ".join(cells), flush=True)
        rows.append(cells)
    table("Test nats of binary tables", ["table", "published", *args.models], rows)


if __name__ == "__main__":
    main()
