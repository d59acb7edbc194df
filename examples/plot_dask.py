"""
Search on a dask cluster
========================

``GridSearchCV`` sends its fits to the workers of a dask cluster, by the backend of joblib for dask.
"""

# %%
# Here the cluster is two threads of this process. With the address of a scheduler,
# ``Client("tcp://...")``, the same code uses the machines of that cluster. Dask is an optional
# dependency: ``pip install 'sklearn-vae[distributed]'``.

import matplotlib.pyplot as plt
from distributed import Client, get_task_stream
from joblib import parallel_config
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, KFold

from sklearn_vae import VAETransformer

search = GridSearchCV(
    VAETransformer(max_iter=20, refit=False, random_state=0),
    {"n_components": [2, 4], "beta": [1.0, 2.0]},
    cv=KFold(2, shuffle=True, random_state=0),
)
with (
    Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=":0") as client,
    get_task_stream(client) as stream,
    parallel_config("dask"),
):
    search.fit(load_breast_cancer().data)
print(search.best_params_)

# %%
# Each bar is a task, of one fit with its score or of several short ones, on the worker that did it.
# Results are the same bits as without dask.

workers = sorted({task["worker"] for task in stream.data})
start = min(piece["start"] for task in stream.data for piece in task["startstops"])
fig, ax = plt.subplots(figsize=(6, 2.8), layout="constrained")
for number, task in enumerate(stream.data):
    for piece in task["startstops"]:
        if piece["action"] == "compute":
            ax.barh(
                workers.index(task["worker"]),
                piece["stop"] - piece["start"],
                left=piece["start"] - start,
                color=f"C{number % 10}",
                edgecolor="white",
            )
ax.set(xlabel="seconds", yticks=range(len(workers)))
ax.set_yticklabels([f"worker {number}" for number in range(len(workers))])
ax.set_title(f"{len(stream.data)} tasks of a search")
plt.show()

# %%
# :class:`~sklearn_vae.model_selection.VAESearchCV` trains all fits together in one process instead.
# On one machine with a small table it is the faster of the two; a cluster pays when a single fit
# takes minutes.
