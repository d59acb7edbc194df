"""Time and memory of tables with a column of many categories (levels).

    python benchmarks/levels.py
    python benchmarks/levels.py --levels 10,1000 --estimators VAETransformer

Tables of `--rows` rows have five columns (four numbers and one of two classes) and a column of
strings, whose r-th level has a probability proportional to 1/(r + 5). Each level shifts the other
columns by two random effects. A fresh process per table and estimator first fits 200 rows, so that
all imports are done. Then come the CPU seconds of fit (`--max-iter` iterations), `score_samples`
and `sample` of 2,000 rows on one thread, and by how much the peak memory rises. Ratios are to the
first number of levels.
"""

import time

import numpy as np
import pandas as pd
import torch
from common import fresh, options, peak_mib, table

import sklearn_vae


def levels_table(n_rows: int, n_levels: int) -> pd.DataFrame:
    """Five columns, and a column of levels that shift them."""
    rng = np.random.default_rng(0)
    p = 1 / (np.arange(n_levels) + 5.0)
    level = rng.choice(n_levels, n_rows, p=p / p.sum())
    effects = rng.normal(size=(n_levels, 2))
    numbers = effects[level] @ rng.normal(size=(2, 4))
    numbers += rng.normal(size=(n_rows, 1)) @ rng.normal(size=(1, 4))
    numbers += 0.5 * rng.normal(size=(n_rows, 4))
    frame = pd.DataFrame(numbers, columns=list("abcd"))
    is_member = rng.random(n_rows) < 1 / (1 + np.exp(-2 * effects[level, 0]))
    frame["member"] = np.where(is_member, "yes", "no")
    frame["level"] = pd.Series([f"level {i}" for i in level], dtype=object)
    return frame


def use(name: str, frame: pd.DataFrame, max_iter: int) -> None:
    """Fit an estimator, and call the methods that all rows go through."""
    model = getattr(sklearn_vae, name)(random_state=0).set_params(max_iter=max_iter).fit(frame)
    model.score_samples(frame[:2000])
    model.sample(2000)


def print_cost(name: str, n_rows: int, n_levels: int, max_iter: int) -> None:
    """In a fresh process: print CPU seconds, and MiB that are added to the peak."""
    torch.set_num_threads(1)
    use(name, levels_table(200, 5), 1)
    frame = levels_table(n_rows, n_levels)
    before, start = peak_mib(), time.process_time()
    use(name, frame, max_iter)
    print(time.process_time() - start, peak_mib() - before)


def main() -> None:
    args = options(
        __doc__,
        estimators=["VAETransformer", "VAEDensity"],
        levels=[10, 1_000, 10_000, 100_000],
        rows=20_000,
        max_iter=10,
    )
    lines = []
    for name in args.estimators:
        costs: list[np.ndarray] = []
        for n_levels in args.levels:
            call = f"print_cost({name!r}, {args.rows}, {n_levels}, {args.max_iter})"
            costs.append(np.array(fresh(f"from levels import print_cost; {call}").split(), float))
            (seconds, mib), ratios = costs[-1], costs[-1] / costs[0]
            lines.append([name, f"{n_levels:,}", f"{seconds:.1f}", f"{mib:.0f}"])
            lines[-1] += [f"{ratio:.2f}" for ratio in ratios]
    header = ["estimator", "levels", "CPU s", "MiB", "times the time", "times the memory"]
    table(f"Cost ({args.rows:,} rows, max_iter={args.max_iter})", header, lines)


if __name__ == "__main__":
    main()
