"""
ONNX in another runtime
=======================

An encoder is exported to ONNX and run by ONNX Runtime, which needs neither PyTorch nor
scikit-learn, and exists for C++, Java, JavaScript and phones.
"""

# %%
# ``pip install 'sklearn-vae[onnx]' onnxruntime``. The exported model takes rows in the units of the
# table. Its numbers have normal distributions: ``likelihood="gaussian"``.

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
from sklearn.datasets import load_breast_cancer

from sklearn_vae import VAETransformer
from sklearn_vae.onnx import to_onnx

X = load_breast_cancer().data
vae = VAETransformer(n_components=4, likelihood="gaussian", random_state=0).fit(X)
model = to_onnx(vae, "encoder").SerializeToString()
session = onnxruntime.InferenceSession(model)


def encode(rows):
    return session.run(None, {"X": rows})[0]


print(f"{len(model) / 1024:.0f} kB, largest difference of a code:", end=" ")
print(f"{np.abs(encode(X) - vae.transform(X)).max():.0e}")

# %%
# Seconds per call, on the machine that built this page, by the number of rows. For a few rows most
# of the time of ``transform`` goes to the checks of scikit-learn; for many, the products take it.


def seconds(function, rows):
    times = []
    for _ in range(5):
        start = perf_counter()
        function(rows)
        times.append(perf_counter() - start)
    return min(times)


sizes = [1, 10, 100, 1000, 10_000]
tables = [np.resize(X, (n, X.shape[1])) for n in sizes]
fig, ax = plt.subplots(figsize=(5.6, 3.7), layout="constrained")
for label, function in {"VAETransformer.transform": vae.transform, "ONNX Runtime": encode}.items():
    times = [seconds(function, rows) for rows in tables]
    ax.loglog(sizes, times, "o-", label=label)
    print(f"{label}: {times[0] * 1e6:.0f} µs for one row, {times[-1] * 1e3:.1f} ms for 10,000")
ax.set(xlabel="rows", ylabel="seconds per call")
ax.xaxis.set_major_formatter("{x:,.0f}")
ax.legend(frameon=False)
plt.show()
