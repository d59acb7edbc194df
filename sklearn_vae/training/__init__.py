"""Training: datasets, configurations, the training loop, checkpoints, and jobs."""

from sklearn_vae.training.checkpoint import checkpoint_at
from sklearn_vae.training.config import TrainingConfig
from sklearn_vae.training.dataset import Dataset, EncodedRows, Rows
from sklearn_vae.training.early_stopping import StageScheduler
from sklearn_vae.training.jobs import TrainingJob, TrainingResult, apart, fit_all, history_of
from sklearn_vae.training.keyboard_interrupt import InterruptHandler
from sklearn_vae.training.mask_inputs import add_mask_inputs
from sklearn_vae.training.run import RunResult, TrainingRun
from sklearn_vae.training.stacked import launch, speed_for, train
from sklearn_vae.training.trainer import Trainer

__all__ = [
    "Dataset",
    "EncodedRows",
    "InterruptHandler",
    "Rows",
    "RunResult",
    "StageScheduler",
    "Trainer",
    "TrainingConfig",
    "TrainingJob",
    "TrainingResult",
    "TrainingRun",
    "add_mask_inputs",
    "apart",
    "checkpoint_at",
    "fit_all",
    "history_of",
    "launch",
    "speed_for",
    "train",
]
