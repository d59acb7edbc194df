"""Saving and loading: one safe file format."""
