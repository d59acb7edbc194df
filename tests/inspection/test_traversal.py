"""Latent traversals."""

import numpy as np
import pytest

from sklearn_vae import VAETransformer
from sklearn_vae.inspection import TraversalDisplay
from sklearn_vae.metrics import kl_per_dimension
from sklearn_vae.posteriors import GaussianCategorical, RelaxedCategorical
from tests.inspection.conftest import QUICK, pixels


def test_a_traversal_changes_one_component_and_keeps_the_row_s_other_codes(digits):
    """Its codes are quantiles of the rows' codes."""
    X, _, vae = digits
    code = vae.transform(X)[7]
    kl = kl_per_dimension(vae, X)
    display = TraversalDisplay.from_estimator(vae, X, row=7, n_steps=5, image_shape=(8, 8))
    first = int(np.argmax(kl))
    codes = np.tile(code, (5, 1))
    codes[:, first] = np.quantile(vae.transform(X)[:, first], [0.025, 0.2625, 0.5, 0.7375, 0.975])
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    ticks = [label.get_text() for label in display.ax_.get_xticklabels()]

    np.testing.assert_allclose(
        pixels(display.images_)[0].reshape(5, 64),
        vae.inverse_transform(codes),
        rtol=1e-5,
        atol=1e-5,
    )
    assert display.components == np.argsort(-kl).tolist()
    assert names[0] == f"component {first}\nKL {kl[first]:.2f} nats"
    assert ticks == ["2.5 %", "26.2 %", "50 %", "73.8 %", "97.5 %"]
    assert display.images_[0, 0].get_clim() == (X.min(), X.max())


def test_the_traversal_of_a_table_is_a_heat_map_of_changes(named):
    """In standard deviations from the traversal's mean; large codes on top."""
    table, vae = named
    display = TraversalDisplay.from_estimator(vae, table, components=1, n_steps=3)
    low, middle, high = np.quantile(vae.transform(table)[:, 1], [0.025, 0.5, 0.975])
    rows = vae.inverse_transform([[0, low], [0, middle], [0, high]])
    scale = table.std(ddof=0).replace(0, 1).to_numpy()
    image = display.images_[0, 0]
    _, _, bottom, top = image.get_extent()
    low, high = display.ax_.transData.transform([(0, bottom), (0, top)])[:, 1]

    np.testing.assert_allclose(
        image.get_array(), (rows - rows.mean(axis=0)) / scale, rtol=1e-5, atol=1e-6
    )
    assert image.origin == "lower"
    assert low < high
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == list("abcde")
    assert "standard deviations" in display.figure_.axes[1].get_ylabel()


@pytest.mark.parametrize("row", [None, 3])
@pytest.mark.parametrize(
    ("posterior", "component", "others"),
    [(RelaxedCategorical(n_variables=2), 4, [3, 5]), (GaussianCategorical(n_classes=3), 1, [0, 2])],
    ids=["classes", "classes beside numbers"],
)
def test_probabilities_of_classes_add_up_to_one_along_a_traversal(
    posterior, component, others, row, digits
):
    """The other classes share the rest; without a row, classes are as probable as in the prior."""
    X, _, _ = digits
    vae = VAETransformer(6, posterior=posterior, **QUICK).fit(X)
    is_class = np.arange(6) < posterior.one_hot_block(6).width
    code = np.where(is_class, 1 / 3, 0.0) if row is None else vae.transform(X)[row]
    display = TraversalDisplay.from_estimator(vae, X, row=row, components=component, n_steps=3)
    codes, p = np.tile(code, (3, 1)), display.values[0]
    codes[:, others] = (1 - p)[:, None] * code[others] / code[others].sum()
    codes[:, component] = p

    np.testing.assert_allclose(codes[:, [component, *others]].sum(axis=1), 1)
    np.testing.assert_allclose(display.rows[0], vae.inverse_transform(codes))
