"""What a table is from outside: the way from any table to numbers, and back.

A cell that holds NaN, None, ``pandas.NA``, ``pandas.NaT`` or a null is unobserved, and NaN among
the numbers. A category is the number of its place among the column's categories. A date is the
seconds since 1970-01-01 UTC, a duration its seconds, and both come back to the microsecond.
"""

from sklearn_vae.schema.fields import Field
from sklearn_vae.schema.reading import has_types
from sklearn_vae.schema.schema import Schema

__all__ = ["Field", "Schema", "has_types"]
