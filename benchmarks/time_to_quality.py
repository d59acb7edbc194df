"""Held-out nats against CPU seconds: ours, Gaussian mixtures and other VAEs.

    python benchmarks/time_to_quality.py                                  # the numeric tables
    python benchmarks/time_to_quality.py --tables wine,red_wine --seeds 0,1
    python benchmarks/time_to_quality.py --record               # to time_to_quality.csv
    python benchmarks/time_to_quality.py --picture curve.png    # of that file; nothing is fitted

How each figure is obtained:

- Rows come from tables.py, as in density.py: dequantized, split 80/20 by seed. A figure is the mean
  of log p(x) over the test rows, in nats, in the table's own units. Scoring is not timed.
- Every model is fitted with several budgets, one fit each: VAETransformer and VAEDensity with a
  maximum number of iterations, the last of which is their default; GaussianMixture with one and
  with eight components, and tuned as in density.py; the textbook's VAE of curved.py with a number
  of gradient steps, for each of which its learning rate falls to zero, eight dimensions at most.
- PyOD's and pythae's VAE have at least as many steps, a constant learning rate of 1e-3, and the
  textbook's layers and dimensions. Their decoders have a fixed scale in training. In their density
  it is that of the residuals in each column, and the score is the textbook's. They are left out if
  they are not installed (`pip install --group bench`).
- All fits of a table run in turns in one process on one thread. What a first fit imports is done
  before.
- The table of the best within a time counts the tables on which each model has the highest nats
  among all fits that took at most so many seconds.
"""

import math
import warnings
from argparse import Namespace
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import HERE, options, print_frame, tell, timed
from density import gaussian_mixture
from peers import ScaledVAE, Workload, pyod_vae_detector, scaled_vae, train_pyod, train_pythae
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler
from tables import LOADERS, load_tables, split
from torch import Tensor, nn

from sklearn_vae import VAEDensity, VAETransformer

ITERATIONS = (2, 10, 200)
STEPS = (100, 300, 1_000, 3_000)
LIMITS = (0.5, 1.0, 2.0, 5.0, 10.0)
LEAST = 0.05  # where a curve begins that begins earlier: seconds are printed with one decimal
RECORD = HERE / "time_to_quality.csv"
MAX_LATENT = 8
BATCH_SIZE, WIDTHS = 128, (128, 64)
# Rows and a seed -> the mean log-density of other rows.
Fit = Callable[[np.ndarray, int], Callable[[np.ndarray], float]]


def fits() -> list[tuple[str, str, Fit]]:
    """Every model with each of its budgets."""
    return [
        *(of_sklearn(VAETransformer, max_iter=n) for n in ITERATIONS),
        *(of_sklearn(VAEDensity, max_iter=n) for n in ITERATIONS),
        *(of_sklearn(GaussianMixture, n_components=n) for n in (1, 8)),
        ("GaussianMixture", "by BIC", lambda X, seed: gaussian_mixture(X, seed).score),
        *(("textbook VAE", f"{n} steps", of_textbook(n)) for n in STEPS),
        *(("PyOD VAE", f"{n} steps", of_pyod(n)) for n in STEPS if find_spec("pyod")),
        *(("pythae VAE", f"{n} steps", of_pythae(n)) for n in STEPS if find_spec("pythae")),
    ]


def of_sklearn(cls: type, **budget: int) -> tuple[str, str, Fit]:
    """An estimator with one parameter."""
    label = ", ".join(f"{name}={value}" for name, value in budget.items())
    return cls.__name__, label, lambda X, seed: cls(random_state=seed, **budget).fit(X).score


def of_textbook(n_steps: int) -> Fit:
    """The VAE of the textbook, trained for a number of steps."""
    return lambda X, seed: scaled_vae(X, min(MAX_LATENT, X.shape[1]), seed, n_steps).score


def of_pyod(n_steps: int) -> Fit:
    """PyOD's VAE with the clamp on its KL lifted."""

    def fit(X: np.ndarray, seed: int) -> Callable[[np.ndarray], float]:
        work = workload(X, n_steps)
        detector = pyod_vae_detector(work).set_params(random_state=seed)
        train_pyod(detector, X, work)
        model = detector.model.eval()
        return score_of(model.encode, model.decode, X)

    return fit


def of_pythae(n_steps: int) -> Fit:
    """pythae's VAE, trained by its trainer."""

    def fit(X: np.ndarray, seed: int) -> Callable[[np.ndarray], float]:
        torch.manual_seed(seed)
        model = train_pythae(X.astype(np.float32), workload(X, n_steps)).eval()

        def encode(x: Tensor) -> tuple[Tensor, Tensor]:
            output = model.encoder(x)
            return output.embedding, output.log_covariance

        return score_of(encode, lambda z: model.decoder(z).reconstruction, X)

    return fit


def workload(X: np.ndarray, n_steps: int) -> Workload:
    """The training of a peer: as many passes as have at least so many steps."""
    n_rows, n_columns = X.shape
    batch_size = min(BATCH_SIZE, n_rows)
    epochs = math.ceil(n_steps / (n_rows // batch_size))
    return Workload(n_rows, n_columns, batch_size, WIDTHS, min(MAX_LATENT, n_columns), epochs)


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@torch.no_grad()
def score_of(
    encode: Callable[[Tensor], tuple[Tensor, Tensor]],
    decode: Callable[[Tensor], Tensor],
    X: np.ndarray,
) -> Callable[[np.ndarray], float]:
    """Score by an encoder (mean and log-variance) and a decoder, with the scales of residuals."""

    def params(x: Tensor) -> Tensor:
        loc, log_variance = encode(x)
        return torch.cat([loc, 0.5 * log_variance], dim=-1)

    x = torch.as_tensor(X, dtype=torch.float32)
    loc, log_variance = encode(x)
    z = loc + (0.5 * log_variance).exp() * torch.randn_like(loc)
    model = ScaledVAE(X.shape[1], loc.shape[1])
    model.encoder, model.decoder = Function(params), Function(decode)  # type: ignore[assignment]
    model.log_scale.copy_((x - decode(z)).square().mean(0).sqrt().log())
    return model.score


def run(args: Namespace) -> pd.DataFrame:
    """Nats and CPU seconds of every fit: one row each."""
    warm_up = np.random.default_rng(0).normal(size=(200, 3))
    VAETransformer(max_iter=2).fit(warm_up).score(warm_up)
    records = []
    for table in load_tables(args.tables):
        for seed in args.seeds:
            train, test = split(table.X, seed)
            scaler = StandardScaler().fit(train)
            own_units = float(np.log(scaler.scale_).sum())
            train, test = scaler.transform(train), scaler.transform(test)
            for model, budget, fit in fits():
                seconds, score = timed(lambda fit=fit, train=train, seed=seed: fit(train, seed))
                record = {"table": table.name, "seed": seed, "model": model, "budget": budget}
                record |= {"seconds": seconds, "nats": score(test) - own_units}
                records.append(record)
                tell(record)
    return pd.DataFrame(records)


def report(records: pd.DataFrame) -> None:
    """Print nats and seconds by table, and the best within each time."""
    means = records.groupby(["table", "model", "budget"], sort=False)[["nats", "seconds"]].mean()
    cells = means["nats"].map("{:.2f}".format) + ", " + means["seconds"].map("{:.1f} s".format)
    print_frame("fits", cells.unstack("table", sort=False))
    best = {}
    for limit in LIMITS:
        within = means[means["seconds"] <= limit]["nats"].groupby(["table", "model"]).max()
        best[f"{limit} s"] = within.unstack("model").idxmax(axis=1).value_counts()
    print_frame("tables on which it is best within", pd.DataFrame(best).fillna(0), ".0f")


def draw(records: pd.DataFrame, path: Path) -> None:
    """Draw the best nats so far against seconds, one panel per table and one for the legend."""
    import matplotlib.pyplot as plt

    names = records["table"].unique()
    n_columns = min(len(names) + 1, 3)
    n_panels = -(-(len(names) + 1) // n_columns)
    size = (3.2 * n_columns, 2.7 * n_panels)
    end = 1.3 * records["seconds"].max()
    figure, axes = plt.subplots(n_panels, n_columns, figsize=size, squeeze=False)
    for panel, name in zip(axes.flat, names, strict=False):
        means = records[records["table"] == name].groupby(["model", "budget"], sort=False)
        means = means[["seconds", "nats"]].mean()
        means["seconds"] = means["seconds"].clip(lower=LEAST)
        for model in records["model"].unique():
            best = means.loc[model].groupby("seconds")["nats"].max().cummax()
            best = best[~best.duplicated()]
            options = {"marker": "o", "ms": 4, "markevery": slice(len(best))}
            width = 2.2 if model.startswith("VAE") else 1.2
            curve = [*best.index, end], [*best, best.iloc[-1]]
            panel.step(*curve, where="post", label=model, lw=width, **options)
        low, high = means["nats"].quantile(0.2), means["nats"].max()
        panel.set_ylim(low - 0.3 * (high - low), high + 0.1 * (high - low))
        panel.set_xscale("log")
        panel.set(title=name.replace("_", " "), xlim=(LEAST, end), xlabel="CPU seconds")
        panel.xaxis.set_major_formatter("{x:g}")
    for panel in axes[:, 0]:
        panel.set_ylabel("held-out nats per row")
    for panel in axes.flat[len(names) :]:
        panel.axis("off")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    legend = {"title": "best so far", "loc": "center", "frameon": False, "fontsize": "large"}
    axes.flat[len(names)].legend(handles, labels, title_fontsize="large", **legend)
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=120)


def main() -> None:
    args = options(__doc__, tables=[*LOADERS], seeds=[0], record=False, picture=Path())
    if args.picture.name:
        draw(pd.read_csv(RECORD), args.picture)
        return
    warnings.simplefilter("ignore", ConvergenceWarning)
    records = run(args)
    if args.record:
        records.round(2).to_csv(RECORD, index=False)
    report(records)


if __name__ == "__main__":
    main()
