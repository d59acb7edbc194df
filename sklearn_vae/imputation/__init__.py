"""Boosted trees and hidden cells: parts of the average of VAEImputer."""
