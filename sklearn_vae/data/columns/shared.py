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
        one
        for one in columns
        if isinstance(one, RealColumns) and not isinstance(one, PointMassColumns)
    ]
    if not real:
        return
    exponent = np.max([one.exponent for one in real])
    means = np.concatenate([np.ldexp(one.shift, one.exponent - exponent) for one in real])
    scales = np.concatenate([np.ldexp(one.scale, one.exponent - exponent) for one in real])
    scale = np.sqrt(np.mean(np.square(scales) + np.square(means - means.mean())))
    for one in real:
        one.exponent, one.shift = np.array([exponent]), np.array([means.mean()])
        one.scale = np.array([scale])


def share_categories(columns: list[Columns], is_coded: list[bool]) -> list[Columns]:
    """Give categorical columns, and binary ones beside them, the categories of all.

    Columns whose categories a schema has coded have one list already.
    """
    categories = {
        j: one.categories
        for j, (one, coded) in enumerate(zip(columns, is_coded, strict=True))
        if (type(one) is CategoricalColumns and not coded) or type(one) is BinaryColumns
    }
    if all(type(columns[j]) is BinaryColumns for j in categories):
        return columns
    shared = np.unique(np.concatenate([values.ravel() for values in categories.values()]))
    likelihood = find("Categorical")(len(shared))
    return [
        CategoricalColumns(one.indices, likelihood, shared[None]) if j in categories else one
        for j, one in enumerate(columns)
    ]
