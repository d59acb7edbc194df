"""Training: what a run is made of, where it stands, the loop itself, and many runs at once."""

from sklearn_vae.training.checkpoint import checkpoint_at
from sklearn_vae.training.course import Course
from sklearn_vae.training.fits import Fit, Fitted, apart, fit_all, history_of
from sklearn_vae.training.fleet import Run, launch, speed_for, train
from sklearn_vae.training.heats import Heats
from sklearn_vae.training.interruption import Witness
from sklearn_vae.training.plan import Plan, Table
from sklearn_vae.training.rows import EncodedRows, Rows
from sklearn_vae.training.trainer import Outcome, Trainer
from sklearn_vae.training.widening import widen

__all__ = [
    "Course",
    "EncodedRows",
    "Fit",
    "Fitted",
    "Heats",
    "Outcome",
    "Plan",
    "Rows",
    "Run",
    "Table",
    "Trainer",
    "Witness",
    "apart",
    "checkpoint_at",
    "fit_all",
    "history_of",
    "launch",
    "speed_for",
    "train",
    "widen",
]
