"""Tags of the estimators, by which scikit-learn knows their input."""

from sklearn.utils import Tags


class TableTagsMixin:
    """An estimator of tables with categories and missing values, or of sparse matrices."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.categorical = True
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        return tags
