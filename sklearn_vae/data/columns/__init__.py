"""Columns of a table: one class per kind, which owns its check, encoding and likelihoods."""
