"""Boosted trees, repeated values and hidden cells: parts of the average of VAEImputer."""
