"""Values that stand for missing cells: columns keep their names and dtypes."""

import pytest

from sklearn_vae.data.arrays import replace_by_nan

pd = pytest.importorskip("pandas")


@pytest.mark.parametrize("name", ["a", 0])
def test_the_category_of_missing_cells_is_left_out(name):
    """Names may be numbers, the index is kept, and so is the order of the others."""
    cells = pd.Categorical(["?", "b", "a"], categories=["b", "?", "a"], ordered=True)
    frame = pd.DataFrame({name: cells}, index=[5, 7, 9])
    expected = pd.Categorical([None, "b", "a"], categories=["b", "a"], ordered=True)

    pd.testing.assert_frame_equal(
        replace_by_nan(frame, "?"), pd.DataFrame({name: expected}, index=[5, 7, 9])
    )
