"""Time and memory of this package and its peers: fits, grids, inference, start, threads.

    python benchmarks/speed.py                 # everything: under ten minutes
    python benchmarks/speed.py --quick         # shorter, without threads: under a minute
    python benchmarks/speed.py --parts fit --workloads W1,W4 --systems textbook,sklearn_vae

What is compared takes turns in one process on one thread, round after round, every second
round in reverse. Costs are medians over the rounds; speeds are medians and quartiles of the
ratios within a round. Compare the ratios, not the milliseconds. Times are CPU times, unless
wall is said. How each part's figures are obtained:

- ``fit``: all systems fit the same rows. A round gives each two costs: of a fit, its CPU time
  over its gradient steps; of a step alone, what the passes after the first add, over their
  steps, so that work done once per fit drops out. ``sklearn_vae`` does the textbook's work,
  ``sklearn_vae_defaults`` what its users get. Among the systems is one that computes nothing but
  the matrix products of the textbook's steps, by the faster of two libraries: a share of the
  GEMM limit is its time over a system's.
- ``grid``: a search over 4 latent sizes and 4 betas by 5 folds, scoring included, without a
  refit: GridSearchCV of the textbook loop (its score is one draw's loss), GridSearchCV and
  VAESearchCV of VAETransformer (doing the textbook's work; its score is the log-density from 64
  draws). All take the same number of steps per fit, which is printed.
  With ``factor=4`` candidates are given up on the way.
- ``search``: GridSearchCV and VAESearchCV at the defaults of both and of VAETransformer, over 3
  latent sizes and 3 betas on real tables, refit included.
- ``defaults``: fits of all estimators at their defaults on small tables, the mixed ones with their
  missing cells. Beside them are the textbook loop and a mixture of eight components on imputed,
  one-hot and standardized columns. The textbook loop has the widths, the latent size and the number
  of steps of VAETransformer.
- ``inference``: ``score_samples`` of 200,000 rows with 64 draws, per row and draw, beside
  pythae's ``get_nll`` on a few hundred rows; ``transform`` beside a DataLoader loop over the
  textbook's encoder. PyOD's score is of one draw per row. Networks and columns are W1's.
- ``frame``: the share of W3's fit that is not spent in ``Trainer._train_on_batches``, which does
  nothing but draw batches and noise and take gradient steps.
- ``growth``: the slope of log cost per pass over log size, of ``sklearn_vae``: of a whole fit
  of few passes, and of the passes after the first.
- ``memory``: one fresh process per system loads the rows, makes a toy fit, so that every lazy
  import is behind it, and notes its highest resident memory so far; the table says what one
  pass over all rows then adds. Where there is /proc, the kernel's VmHWM is read and not
  ``ru_maxrss``, which a process inherits from the one that started it.
- ``start``: wall and CPU seconds of fresh processes that import, or import and make a first fit
  (one pass over W3's 500 rows); median of the runs, the interpreter's own start included.
- ``threads``: wall time, in a fresh process whose threads nobody has set, of a fit on one
  thread, a fit on as many as torch chooses, and two fits side by side by joblib. Side by side
  is compared with twice one fit; a ratio below 1 would be oversubscription.

A system that is not installed is named and left out.
"""

import argparse
import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from parts.default_fits import report_defaults
from parts.fits import report_fit, report_frame, report_growth
from parts.grids import REAL_TABLES, TABLES, report_default_grid, report_grid
from parts.inference import report_inference
from parts.processes import report_memory, report_start, report_threads
from peers import OURS, PACKAGES, SYSTEMS, WORKLOADS


def fit(args: argparse.Namespace) -> None:
    for name in args.workloads or (["W1", "W3"] if args.quick else WORKLOADS):
        work = WORKLOADS[name]
        # a fit of W4 is long and steady
        rounds = args.rounds or (1 if args.quick or name == "W4" else 2)
        epochs = max(work.epochs // 3, 2) if args.quick else work.epochs
        report_fit(name, replace(work, epochs=epochs), args.systems, rounds)


def grid(args: argparse.Namespace) -> None:
    for name, work in list(TABLES.items())[: 1 if args.quick else None]:
        table = replace(work, epochs=7) if args.quick else work
        report_grid(name, table, args.rounds or 1, with_textbook="textbook" in args.systems)


def search(args: argparse.Namespace) -> None:
    report_default_grid(REAL_TABLES[: 1 if args.quick else None], args.rounds or 1)


def defaults(args: argparse.Namespace) -> None:
    report_defaults(args.rounds or (1 if args.quick else 3))


def inference(args: argparse.Namespace) -> None:
    n_rows = 10_000 if args.quick else 200_000
    report_inference(n_rows, args.systems, args.rounds or 1)


def frame(args: argparse.Namespace) -> None:
    report_frame(args.rounds or (1 if args.quick else 5))


def growth(args: argparse.Namespace) -> None:
    report_growth(args.rounds or (1 if args.quick else 2))


def memory(args: argparse.Namespace) -> None:
    for name in args.workloads or ["W1" if args.quick else "W4"]:
        report_memory(name, few(args))


def start(args: argparse.Namespace) -> None:
    report_start(few(args), runs=args.rounds or (1 if args.quick else 2))


def threads(args: argparse.Namespace) -> None:
    works = {"W2": 5} if args.quick else {"W2": 20, "W4": 2}
    report_threads(works, args.rounds or (1 if args.quick else 2))


PARTS = {
    part.__name__: part
    for part in (fit, grid, search, defaults, inference, frame, growth, memory, start, threads)
}


def few(args: argparse.Namespace) -> list[str]:
    """Return the systems that a quick run starts processes for."""
    return [system for system in args.systems if not args.quick or system == OURS]


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


def names(choices: dict) -> Callable[[str], list[str]]:
    """Return a parser of comma-separated names that refuses unknown ones."""

    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - set(choices):
            raise argparse.ArgumentTypeError(f"{unknown} not among {', '.join(choices)}")
        return chosen

    return parse


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--parts", type=names(PARTS), help="default: all (quick: but threads)")
    parser.add_argument("--workloads", type=names(WORKLOADS), help="of the parts fit and memory")
    parser.add_argument("--systems", type=names(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--rounds", type=int, help="default: 1 to 5 (quick: 1)")
    args = parser.parse_args(arguments)

    torch.set_num_threads(1)
    args.systems = available(args.systems)
    for part in args.parts or [part for part in PARTS if part != "threads" or not args.quick]:
        PARTS[part](args)


if __name__ == "__main__":
    main()
