"""One scale and one list of categories for the columns of a sequence or an image."""

import numpy as np

from sklearn_vae.data.columns.base import Columns
from sklearn_vae.data.columns.binary import BinaryColumns
from sklearn_vae.data.columns.categories import CategoricalColumns
from sklearn_vae.data.columns.point_masses import PointMassColumns
from sklearn_vae.data.columns.real import RealColumns
from sklearn_vae.persistence.registry import find


def share_scale(columns: list[Columns]) -> None:
    """Give real columns their common mean and scale, in place.

    All their values together have mean 0 and variance 1. Columns with point masses keep theirs.
    """
    real = [
        column
        for column in columns
        if isinstance(column, RealColumns) and not isinstance(column, PointMassColumns)
    ]
    if not real:
        return
    exponent = np.max([column.exponent for column in real])
    means = np.concatenate([np.ldexp(column.shift, column.exponent - exponent) for column in real])
    scales = np.concatenate([np.ldexp(column.scale, column.exponent - exponent) for column in real])
    scale = np.sqrt(np.mean(np.square(scales) + np.square(means - means.mean())))
    for column in real:
        column.exponent, column.shift = np.array([exponent]), np.array([means.mean()])
        column.scale = np.array([scale])


def share_categories(columns: list[Columns], is_coded: list[bool]) -> list[Columns]:
    """Give categorical columns, and binary ones beside them, the categories of all.

    Columns whose categories a schema has coded have one list already.
    """
    categories = {
        j: column.categories
        for j, (column, has_codes) in enumerate(zip(columns, is_coded, strict=True))
        if (type(column) is CategoricalColumns and not has_codes) or type(column) is BinaryColumns
    }
    if all(type(columns[j]) is BinaryColumns for j in categories):
        return columns
    shared = np.unique(np.concatenate([values.ravel() for values in categories.values()]))
    likelihood = find("Categorical")(len(shared))
    return [
        CategoricalColumns(column.indices, likelihood, shared[None]) if j in categories else column
        for j, column in enumerate(columns)
    ]
