"""Anomaly scores: by a model, by neighbours, and their combination."""
