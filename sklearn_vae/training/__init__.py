"""Training: datasets, configurations, the training loop, checkpoints, and jobs."""
