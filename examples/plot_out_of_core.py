"""
Training in chunks
==================

A file that does not fit in memory is read in chunks: ``fit`` for the first, ``partial_fit`` for the
others.
"""

# %%
# A CSV file of 10,000 rows, written here for the example, is read in chunks of 500 rows. The first
# chunk decides the types and units of the columns. Other rows measure the score after each chunk.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_vae import VAETransformer

rng = np.random.default_rng(0)


def rows(n):
    """Two factors, six measurements, and one class that depends on them."""
    factors = rng.normal(size=(n, 2))
    measured = np.sin(factors @ weights) + 0.2 * rng.normal(size=(n, 6))
    table = pd.DataFrame(measured, columns=[f"m{i}" for i in range(6)])
    table["site"] = np.where(factors[:, 0] + 0.3 * rng.normal(size=n) > 0, "north", "south")
    return table


weights = rng.normal(size=(2, 6))
held_out = rows(1000)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "measurements.csv")
    rows(10_000).to_csv(path, index=False)

    chunks = pd.read_csv(path, chunksize=500)
    vae = VAETransformer(n_components=2, random_state=0).fit(next(chunks))
    scores = [vae.score(held_out)]
    for chunk in chunks:
        vae.partial_fit(chunk)
        scores.append(vae.score(held_out))

    whole = VAETransformer(n_components=2, max_iter=30, random_state=0)
    whole.fit(lambda: pd.read_csv(path, chunksize=500))
    score_of_all = whole.score(held_out)

# %%
# ``fit`` trains on the first chunk until the score no longer improves; ``partial_fit`` passes once
# over each of the others, with steps as small as the last ones of ``fit``. The score rises with the
# rows.
#
# ``fit`` takes all chunks at once, too, as a function that returns them. It keeps the rows in a
# temporary file, and passes over them until the score no longer improves, here at most 30 times:
# the dashed line.

fig, ax = plt.subplots(figsize=(5.6, 3.7), layout="constrained")
ax.plot(range(1, len(scores) + 1), scores, "o-", label="partial_fit, chunk by chunk")
ax.axhline(score_of_all, color="gray", ls="--", label="fit of all chunks")
ax.legend(frameon=False, loc="lower right")
ax.set(
    xticks=range(0, 21, 5), xlabel="chunks of 500 rows", ylabel="held-out log p(x), nats per row"
)
plt.show()
