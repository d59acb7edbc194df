"""Time of saved models without torch: import, load, and calls with one row and with a thousand.

    python benchmarks/runtime.py

The models are of breast cancer (30 columns, default parameters), saved to temporary files. Times
are of the CPU with one thread: imports and loads in new processes, the fastest of five each; calls
as medians.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from common import fresh, options
from tables import LABELLED

import sklearn_vae
from sklearn_vae import VAEDensity, VAEOutlierDetector, VAETransformer, runtime

IMPORTS = {
    "numpy": "import numpy",
    "sklearn_vae.runtime": "import sklearn_vae.runtime",
    "sklearn_vae.runtime, and load": "from sklearn_vae import runtime; runtime.load({path!r})",
    "sklearn_vae.load": "import sklearn_vae; sklearn_vae.load({path!r})",
}
MODELS = {
    VAETransformer(max_iter=20, random_state=0): (
        "transform",
        "score_samples",
        "inverse_transform",
    ),
    VAEOutlierDetector(random_state=0): ("score_samples",),
    VAEOutlierDetector(novelty=True, random_state=0): ("score_samples",),
    VAEDensity(max_iter=20, random_state=0): ("score_samples",),
}


def import_seconds(statement):
    """Fastest of five new processes, without the start of Python itself."""
    code = f"import time; t = time.process_time(); {statement}; print(time.process_time() - t)"
    return min(float(fresh(code)) for _ in range(5))


def call_seconds(function, argument):
    """Median of calls during a second or so."""
    function(argument)
    times, end = [], time.process_time() + 1
    while time.process_time() < end or len(times) < 3:
        start = time.process_time()
        function(argument)
        times.append(time.process_time() - start)
    return np.median(times)


def compare(path, X, methods):
    """Print the times of a model's imports and calls."""
    models = {"runtime": runtime.load(path), "estimator": sklearn_vae.load(path)}
    thousand = np.tile(X, (2, 1))[:1000]
    for n_rows in (1, 1000):
        for method in methods:
            times = []
            for model in models.values():
                rows = thousand[:n_rows]
                rows = model.transform(rows) if method == "inverse_transform" else rows
                times.append(call_seconds(getattr(model, method), rows) * 1e3)
            line = ", ".join(f"{name} {t:8.2f} ms" for name, t in zip(models, times, strict=True))
            print(f"{method:18} {n_rows:5} rows  {line}", flush=True)


def main():
    options(__doc__)
    X, _ = LABELLED["breast_cancer"]()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "model.vae"))
        for number, (estimator, methods) in enumerate(MODELS.items()):
            estimator.fit(X).save(path)
            if number == 0:
                for name, statement in IMPORTS.items():
                    print(f"{name:32} {import_seconds(statement.format(path=path)):8.3f} s")
            print(estimator)
            compare(path, X, methods)


if __name__ == "__main__":
    main()
