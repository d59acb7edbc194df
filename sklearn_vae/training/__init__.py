"""Training: datasets, configurations, the training loop, checkpoints, and jobs."""

from sklearn_vae.training.callbacks import InterruptHandler
from sklearn_vae.training.checkpoint import Checkpoint
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.early_stopping import StageScheduler
from sklearn_vae.training.initialize import add_mask_inputs, make_starts
from sklearn_vae.training.jobs import MIN_STEPS, TrainingConfig, TrainingJob, TrainingResult
from sklearn_vae.training.stacked import make_trainer, threads_for_jobs, train
from sklearn_vae.training.trainer import Trainer

__all__ = [
    "MIN_STEPS",
    "Checkpoint",
    "Dataset",
    "InterruptHandler",
    "StageScheduler",
    "Trainer",
    "TrainingConfig",
    "TrainingJob",
    "TrainingResult",
    "add_mask_inputs",
    "make_starts",
    "make_trainer",
    "threads_for_jobs",
    "train",
]
