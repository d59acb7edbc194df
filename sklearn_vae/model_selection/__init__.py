"""VAESearchCV: a grid and its folds, trained side by side."""

from sklearn_vae.model_selection.search import VAESearchCV

__all__ = ["VAESearchCV"]
