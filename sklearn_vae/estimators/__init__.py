"""The estimators, over one base."""
