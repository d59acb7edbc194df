"""Closed-form and EM starts: probabilistic PCA, factor analysis, k-means, regression."""
