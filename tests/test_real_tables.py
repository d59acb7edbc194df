"""Tables as people have them: every column is read, scored, sampled and filled.

The tables are a folder of CSV files beside the checkout, ``SKLEARN_VAE_DATA/real``; without it the
tests skip themselves. ``benchmarks/sweep.py`` fits the same tables with all iterations.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

from sklearn_vae import VAEDensity, VAETransformer

pd = pytest.importorskip("pandas")

DATA = Path(os.environ.get("SKLEARN_VAE_DATA", Path(__file__).parents[2] / "shared" / "data"))
TABLES = sorted((DATA / "real").glob("*.csv"))
MAX_ROWS = 1500

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Columns of X::")]


@pytest.mark.skipif(bool(TABLES), reason="the tables are there")
def test_the_tables_are_there():
    """Otherwise nothing below runs, which this says."""
    pytest.skip(f"no tables in {DATA / 'real'}")


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "estimator", [VAETransformer(2, max_iter=1), VAEDensity(2, mixtures=[(2, "diag")], max_iter=1)]
)
def test_a_table_is_read(path, estimator):
    """Its rows, samples and rows with holes."""
    table = pd.read_csv(path).drop(columns="rownames", errors="ignore")
    table = table.sample(min(len(table), MAX_ROWS), random_state=0)
    model = clone(estimator).set_params(random_state=0).fit(table)
    rows = table[:100]
    assert np.isfinite(model.score_samples(rows)).all()

    sample = model.sample(200)
    assert list(sample.columns) == list(table.columns)
    assert not sample.dropna(axis=1, how="all").isna().any(axis=None)

    holed = rows.mask(np.random.default_rng(0).random(rows.shape) < 0.2)
    imputed, known = model.impute(holed), holed.notna().to_numpy()
    assert (imputed.to_numpy()[known] == holed.to_numpy()[known]).all()
    assert np.isfinite(model.score_samples(holed)).all()
