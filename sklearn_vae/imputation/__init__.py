"""What VAEImputer averages its model with: boosted trees, repeated values, hidden cells."""
