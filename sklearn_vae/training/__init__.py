"""Training: what a run is made of, where it stands, and the loop itself."""

from sklearn_vae.training.course import Course
from sklearn_vae.training.plan import SHARED_DRAWS, Plan, Table
from sklearn_vae.training.trainer import Trainer

__all__ = ["SHARED_DRAWS", "Course", "Plan", "Table", "Trainer"]
