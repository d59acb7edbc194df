"""Time and memory of this package and its peers: fits, grids, inference, start.

    python benchmarks/speed.py                 # everything: under ten minutes
    python benchmarks/speed.py --quick         # shorter: under a minute
    python benchmarks/speed.py --parts fit --workloads W1,W4 --systems textbook,sklearn_vae

What is compared takes turns in one process on one thread, round after round, every second
round in reverse. Costs are medians over the rounds; speeds are medians and quartiles of the
ratios within a round. Compare the ratios, not the milliseconds. Times are CPU times, unless
wall is said. `--rounds 0` is each part's own number. How each part's figures are obtained:

- ``fit``: all systems fit the same rows. A round gives each two costs: of a fit, its CPU time
  over its gradient steps; of a step alone, what the passes after the first add, over their
  steps, so that work done once per fit drops out. ``sklearn_vae`` does the textbook's work,
  ``sklearn_vae_defaults`` what its users get.
- ``grid``: a search over 4 latent sizes and 4 betas by 5 folds, scoring included, without a
  refit: GridSearchCV of the textbook loop (its score is one draw's loss), GridSearchCV and
  VAESearchCV of VAETransformer (doing the textbook's work; its score is the log-density from 64
  draws). All take the same number of steps per fit, which is printed.
- ``search``: GridSearchCV and VAESearchCV at the defaults of both and of VAETransformer, over 3
  latent sizes and 3 betas on real tables, refit included.
- ``defaults``: fits of all estimators at their defaults on small tables, the mixed ones with their
  missing cells. Beside them are the textbook loop and a mixture of eight components on imputed,
  one-hot and standardized columns. The textbook loop has the widths, the latent size and the number
  of steps of VAETransformer.
- ``inference``: ``score_samples`` of 200,000 rows with 64 draws, per row and draw, beside
  pythae's ``get_nll`` on a few hundred rows; ``transform`` beside a DataLoader loop over the
  textbook's encoder. PyOD's score is of one draw per row. Networks and columns are W1's.
- ``memory``: one fresh process per system loads the rows, makes a toy fit, so that every lazy
  import is behind it, and notes its highest resident memory so far; the table says what one
  pass over all rows then adds. Where there is /proc, the kernel's VmHWM is read and not
  ``ru_maxrss``, which a process inherits from the one that started it.
- ``start``: wall and CPU seconds of fresh processes that import, or import and make a first fit
  (one pass over W3's 500 rows); median of the runs, the interpreter's own start included.

A system that is not installed is named and left out.
"""

import importlib.metadata
import importlib.util
import platform
from argparse import Namespace
from dataclasses import replace

from common import options
from parts.default_fits import report_defaults
from parts.fits import report_fit
from parts.grids import REAL_TABLES, TABLES, report_default_grid, report_grid
from parts.inference import report_inference
from parts.processes import report_memory, report_start
from peers import OURS, PACKAGES, SYSTEMS, WORKLOADS


def fit(args: Namespace) -> None:
    for name in ["W1", "W3"] if args.quick else args.workloads:
        work = WORKLOADS[name]
        # a fit of W4 is long and steady
        rounds = args.rounds or (1 if args.quick or name == "W4" else 2)
        epochs = max(work.epochs // 3, 2) if args.quick else work.epochs
        report_fit(name, replace(work, epochs=epochs), args.systems, rounds)


def grid(args: Namespace) -> None:
    for name, work in list(TABLES.items())[: 1 if args.quick else None]:
        table = replace(work, epochs=7) if args.quick else work
        report_grid(name, table, args.systems, args.rounds or 1)


def search(args: Namespace) -> None:
    report_default_grid(REAL_TABLES[: 1 if args.quick else None], args.rounds or 1)


def defaults(args: Namespace) -> None:
    report_defaults(args.rounds or (1 if args.quick else 3))


def inference(args: Namespace) -> None:
    report_inference(10_000 if args.quick else 200_000, args.systems, args.rounds or 1)


def memory(args: Namespace) -> None:
    report_memory("W1" if args.quick else "W4", [OURS] if args.quick else args.systems)


def start(args: Namespace) -> None:
    report_start([OURS] if args.quick else args.systems, args.rounds or (1 if args.quick else 2))


PARTS = {part.__name__: part for part in (fit, grid, search, defaults, inference, memory, start)}


def available(systems: list[str]) -> list[str]:
    """Return the installed systems; print their versions and name those left out."""
    packages = {system: PACKAGES.get(system, system) for system in systems}
    installed = [system for system in systems if importlib.util.find_spec(packages[system])]
    for system in [system for system in systems if system not in installed]:
        print(f"{system} is left out: {packages[system]} is not installed.")
    peers = dict.fromkeys(["numpy", *(packages[s] for s in installed if packages[s] != OURS)])
    versions = [f"{peer} {importlib.metadata.version(peer)}" for peer in peers]
    print(f"Python {platform.python_version()}, {', '.join(versions)}; one thread.")

    return installed


def main() -> None:
    """Run the parts that were asked for."""
    args = options(
        __doc__,
        quick=False,
        parts=[*PARTS],
        workloads=[*WORKLOADS],
        systems=[*SYSTEMS],
        rounds=0,
    )
    args.systems = available(args.systems)
    for part in args.parts:
        PARTS[part](args)


if __name__ == "__main__":
    main()
