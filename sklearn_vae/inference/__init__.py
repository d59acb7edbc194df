"""A fitted model, asked in batches: scores, samples, codes, missing values."""
