"""One visit to a GPU: correctness and speed of everything on "cuda", in one command and one table.

    python benchmarks/gpu.py                      # on a machine with a GPU, within eight minutes
    python benchmarks/gpu.py --device cpu --quick # the same script, smaller, to try it

It needs torch, scikit-learn, numpy, narwhals, pandas and pytest, and no network. skorch may be
missing there. It is pure Python, so a wheel beside the repository is enough:

    pip download --no-deps --dest wheels skorch
    PYTHONPATH=.:$(ls wheels/skorch*.whl) python benchmarks/gpu.py

What it does, in this order. A part that fails prints its error, and the next one begins; after
``--minutes`` nothing is begun:

- ``tests``: every test that is marked ``gpu``.
- ``steps``: W1 to W4 of ``speed.py``: a textbook loop on the device, and this package doing the
  same work. Of fits of few and many passes, the difference is that of steps alone.
- ``stacked``: many fits of one table with seeds and learning rates of their own, in stacked
  models, and the textbook's fit times their number.
- ``estimators``: default fits of each estimator on the device and on the CPU with one seed, of a
  table of numbers and of a mixed one with missing cells. Both fits draw the same numbers, so
  differences are those of rounding; a model of the device is scored on the CPU, too, saved and
  loaded. Times are by the clock.
- ``mnist``: iterations of ``mnist.py``, with the ELBO and with IWAE, and scores.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import table
from peers import WORKLOADS, Workload, train_textbook, vae_transformer_like_textbook

from sklearn_vae import (
    VAEClassifier,
    VAEDensity,
    VAEImputer,
    VAEOutlierDetector,
    VAETransformer,
    load,
)
from sklearn_vae.model_selection import VAESearchCV
from sklearn_vae.objectives import IWAE
from sklearn_vae.training.jobs import TrainingJob
from sklearn_vae.training.stacked import train

ROOT = Path(__file__).resolve().parents[1]


def seconds(run: Callable[[], object]) -> tuple[float, object]:
    """Return the seconds by the clock until the device has done a call, and what it returns."""
    start = time.perf_counter()
    result = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


# -- tests -------------------------------------------------------------------------------


def tests(_: argparse.Namespace) -> None:
    """Run the tests that need a GPU."""
    files = [path for path in ROOT.glob("tests/**/test_*.py") if "mark.gpu" in path.read_text()]
    # other versions than the pinned ones warn of their future
    ignored = ["-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *ignored, *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(f"\n### Tests marked gpu\n\n{done.stdout[-2500:]}{done.stderr[-500:]}", flush=True)


# -- estimators --------------------------------------------------------------------------


def curved(n_rows: int) -> np.ndarray:
    """Rows of 20 curved columns of numbers."""
    return replace(WORKLOADS["W1"], n_rows=n_rows, n_columns=20, n_components=5).rows()


def mixed(n_rows: int) -> pd.DataFrame:
    """Rows of numbers, counts, classes and missing cells."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal(n_rows)
    frame = pd.DataFrame({
        "income": np.exp(3 + z + 0.3 * rng.standard_normal(n_rows)),
        "age": 40 + 9 * z + 3 * rng.standard_normal(n_rows),
        "children": rng.poisson(np.exp(0.3 * z)),
        "city": np.where(z > 0, "north", np.where(rng.random(n_rows) < 0.5, "south", "west")),
        "member": rng.random(n_rows) < 1 / (1 + np.exp(-z)),
    })  # fmt: skip
    return frame.mask(rng.random(frame.shape) < 0.05)


def estimators(args: argparse.Namespace) -> None:
    """Fit, score, save and load each estimator on the device and on the CPU."""
    n_rows = 300 if args.quick else 1_000
    tables = {"numbers": curved(n_rows), "mixed": mixed(n_rows)}
    labels = np.arange(n_rows) % 2
    makers: dict[str, Callable] = {
        "VAETransformer": VAETransformer,
        "VAETransformer, prior='mixture'": lambda **p: VAETransformer(prior="mixture", **p),
        "VAETransformer, prior='vamp'": lambda **p: VAETransformer(prior="vamp", **p),
        "VAETransformer, IWAE": lambda **p: VAETransformer(objective="iwae", **p),
        "VAETransformer, diagonal": lambda **p: VAETransformer(posterior="gaussian", **p),
        "VAEDensity": VAEDensity,
        "VAEOutlierDetector": VAEOutlierDetector,
        "VAEImputer": lambda **p: VAEImputer(VAETransformer(**p)),
        "VAEClassifier": lambda **p: VAEClassifier(VAETransformer(**p)),
        "VAESearchCV": lambda **p: VAESearchCV(
            VAETransformer(max_iter=20, **p), {"n_components": [2, 4], "beta": [0.5, 1]}, cv=3
        ),
    }
    rows = []
    for name, make in makers.items():
        for kind, X in tables.items():
            if time.perf_counter() > args.end:
                break
            try:
                rows.append([name, kind, *compare(make, X, labels, args.device)])
            except Exception as error:
                traceback.print_exc()
                rows.append([name, kind, f"{type(error).__name__}: {str(error)[:60]}", *[""] * 6])
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    header = ["estimator", "table", "fit, s", "on the CPU", "score, ms", "on the CPU"]
    header += ["largest difference of scores", "of one model on both", "after save and load"]
    table(f"Default fits of {n_rows} rows on {args.device} and on the CPU", header, rows)


def compare(make: Callable, X: np.ndarray | pd.DataFrame, y: np.ndarray, device: str) -> list[str]:
    """Return times and differences of one estimator on one table."""
    fits = [seconds(lambda d=d: make(device=d, random_state=0).fit(X, y)) for d in (device, "cpu")]
    (fit_time, model), (cpu_fit_time, cpu_model) = fits
    score, cpu_score = outputs(model, X), outputs(cpu_model, X)
    score_time, scores = seconds(score)
    cpu_time, cpu_scores = seconds(cpu_score)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        if hasattr(model, "save"):
            model.save(path)
            loaded = load(path)
            difference(outputs(loaded, X)(), scores)
            moved = load(path)
            move(moved, "cpu")
            after = difference(outputs(loaded, X)(), scores)
            on_both = difference(outputs(moved, X)(), scores)
        else:
            after = on_both = "-"
    if hasattr(model, "sample"):
        assert len(model.sample(10, random_state=0)) == 10
    between = difference(scores, cpu_scores)
    times = [f"{fit_time:.2f}", f"{cpu_fit_time:.2f}"]
    return [*times, f"{1e3 * score_time:.0f}", f"{1e3 * cpu_time:.0f}", between, on_both, after]


def move(model: object, device: str) -> None:
    """Set the device of a model, or of the one inside it."""
    for part in (model, getattr(model, "estimator_", None)):
        if hasattr(part, "device"):
            part.set_params(device=device)


def outputs(model: object, X: np.ndarray | pd.DataFrame) -> Callable[[], np.ndarray]:
    """Return a function of the numbers that a fitted estimator is for."""
    best = getattr(model, "best_estimator_", model)
    if isinstance(best, VAEImputer):
        return lambda: pd.DataFrame(best.transform(X)).select_dtypes("number").to_numpy(float)
    if isinstance(best, VAEClassifier):
        return lambda: best.predict_proba(X)
    return lambda: best.score_samples(X)


def difference(a: np.ndarray, b: np.ndarray) -> str:
    """Return the largest difference as text."""
    return f"{np.abs(np.asarray(a) - np.asarray(b)).max():.1e}"


# -- speed -------------------------------------------------------------------------------


def ours(work: Workload, device: str) -> Callable[[], int]:
    """Return a run of this package doing the textbook's work on a device."""
    X = work.rows()
    vae = vae_transformer_like_textbook(work).set_params(device=device)
    return lambda: vae.fit(X).n_steps_


def textbook(work: Workload, device: str) -> Callable[[], int]:
    """Return a run of the textbook's loop on a device."""
    X = work.rows()
    return lambda: train_textbook(X, work, device=device)[1]


def steps(args: argparse.Namespace) -> None:
    """Time steps of W1 to W4 beside the textbook's loop on the same device."""
    rows = []
    for name, work in WORKLOADS.items():
        few = replace(work, epochs=1 if work.epochs < 50 else 10)
        if args.quick:
            few = replace(few, n_rows=30 * work.batch_size, epochs=1)
            work = replace(few, epochs=2)
        per_step, per_fit = [], []
        for system in (textbook, ours):
            system(few, args.device)()  # a warm-up
            (short, n_few), (long, n_many) = (
                seconds(system(each, args.device)) for each in (few, work)
            )
            per_step.append(1e3 * (long - short) / (n_many - n_few))
            per_fit.append(1e3 * long / n_many)
        texts = [f"{value:.2f}" for value in (*per_step, *per_fit)]
        ratios = [f"{a / b:.2f}" for a, b in (per_step, per_fit)]
        rows.append([name, texts[0], texts[1], ratios[0], texts[2], texts[3], ratios[1]])
    header = ["workload", "ms per step, textbook", "ours", "times as fast"]
    table(f"Steps on {args.device}", [*header, "of whole fits, textbook", *header[2:]], rows)


def stacked(args: argparse.Namespace) -> None:
    """Train many models of one table at once."""
    n_fits, epochs = (8, 1) if args.quick else (1_000, 2)
    work = replace(WORKLOADS["W1"], n_rows=500 if args.quick else 10_000, epochs=epochs)
    X = work.rows()
    loop, n_steps = seconds(textbook(work, args.device))
    vae = vae_transformer_like_textbook(work).set_params(device=args.device, refit=False)
    (job, *_), _ = vae._make_jobs(X, None, None)

    def member(k: int) -> TrainingJob:
        return replace(job, config=replace(job.config, seed=k, learning_rate=1e-3 * (1 + k % 3)))

    together, results = seconds(lambda: train([member(k) for k in range(n_fits)]))
    losses = np.array([result.loss for result in results])
    table(
        f"{n_fits} fits of {X.shape[0]} × {X.shape[1]} on {args.device}, {n_steps} steps each",
        ["stacked, s", "textbook's loop, s a fit", "times as fast", "losses"],
        [[f"{together:.1f}", f"{loop:.2f}", f"{n_fits * loop / together:.1f}"]
         + [f"{losses.min():.2f} to {losses.max():.2f}"]],
    )  # fmt: skip


def mnist(args: argparse.Namespace) -> None:
    """Time iterations and scores of binarized MNIST."""
    from mnist import load_rows

    rows, test = load_rows(100 if args.quick else 1_000, 0)
    if args.quick:
        rows = rows[:2_000]
    lines = []
    for name, objective, epochs in (("ELBO", "elbo", 10), ("IWAE(50)", IWAE(50), 3)):
        vae = VAETransformer(
            50, hidden_layer_sizes=(200, 200), likelihood="bernoulli", objective=objective,
            prior="normal", max_iter=1 if args.quick else epochs, batch_size=128,
            early_stopping=True, validation_fraction=1 / 6, refit=False, device=args.device,
            random_state=0,
        )  # fmt: skip
        fit_time, _ = seconds(lambda vae=vae: vae.fit(rows))
        score_time, scores = seconds(lambda vae=vae: vae.score_samples(test, n_draws=1_000))
        lines.append([name, f"{vae.n_iter_}", f"{fit_time / max(vae.n_iter_, 1):.1f}"])
        lines[-1] += [f"{np.mean(scores):.2f}", f"{1e3 * score_time / len(test):.1f}"]
    header = ["objective", "iterations", "s per iteration", "test nats, 1,000 draws"]
    table(f"Binarized MNIST on {args.device}", [*header, "ms per row scored"], lines)


PARTS = {part.__name__: part for part in (tests, steps, stacked, estimators, mnist)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="smaller, to try the script")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=8)
    args = parser.parse_args()
    args.end = time.perf_counter() + 60 * args.minutes
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, {where}", flush=True)
    for part in args.parts:
        start = time.perf_counter()
        if start > args.end:
            break
        try:
            PARTS[part](args)
        except Exception:
            print(f"\n### {part} failed\n\n{traceback.format_exc()[-3000:]}", flush=True)
        print(f"\n({part}: {time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
