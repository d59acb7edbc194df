"""Columns of a table: one class per kind, which owns its check, encoding and likelihoods.

A class that ``COLUMNS`` lists is a kind of column.
"""

from sklearn_vae.data.columns.base import ColumnHint, Columns, TrainingColumn
from sklearn_vae.data.columns.binary import BinaryColumns, ConstantColumns
from sklearn_vae.data.columns.categories import CategoricalColumns, OrdinalColumns
from sklearn_vae.data.columns.counts import CountColumns
from sklearn_vae.data.columns.point_masses import (
    PointMassColumns,
    find_common_values,
    find_point_masses,
    find_point_masses_of_reals,
)
from sklearn_vae.data.columns.real import PositiveColumns, RealColumns
from sklearn_vae.data.columns.shared import share_categories, share_scale

__all__ = [
    "COLUMNS",
    "BinaryColumns",
    "CategoricalColumns",
    "ColumnHint",
    "Columns",
    "ConstantColumns",
    "OrdinalColumns",
    "PositiveColumns",
    "TrainingColumn",
    "find_common_values",
    "find_point_masses",
    "find_point_masses_of_reals",
    "share_categories",
    "share_scale",
]

# Classes of columns by the name of their likelihood's class.
COLUMNS: dict[str, type[Columns]] = {
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
