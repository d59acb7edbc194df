"""Anomaly scores from models and from nearest neighbours, their combination and attribution."""
