"""Training: datasets, configurations, the training loop, and jobs."""
