"""Columns of a table: one class per kind, which owns its check, encoding and likelihoods.

A class that ``COLUMNS`` lists is a kind of column; those of ``OneHotColumns`` are groups.
"""

from sklearn_vae.data.columns.base import Columns
from sklearn_vae.data.columns.binary import BinaryColumns, ConstantColumns
from sklearn_vae.data.columns.categories import CategoricalColumns, OrdinalColumns
from sklearn_vae.data.columns.numbers import (
    CountColumns,
    PointMassColumns,
    PositiveColumns,
    RealColumns,
)

# Classes of columns by the class of their likelihood.
COLUMNS: dict[type, type[Columns]] = {
    likelihood: columns
    for columns in (
        RealColumns,
        PositiveColumns,
        PointMassColumns,
        CountColumns,
        BinaryColumns,
        CategoricalColumns,
        OrdinalColumns,
        ConstantColumns,
    )
    for likelihood in columns.likelihoods
}
