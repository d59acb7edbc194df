"""Closed-form and EM fits from which models are initialized."""
