"""Where runs start from: the linear model of their rows, or clusters of them."""

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sklearn_vae.clusters import clustered
from sklearn_vae.holes import FactorModel
from sklearn_vae.randomness import Stream, stream_seed
from sklearn_vae.start import LinearStart, Spectrum

if TYPE_CHECKING:
    from sklearn_vae.training.fleet import Run


def starts(n_components: int) -> Callable[["Run"], LinearStart]:
    """Give the start of each run; runs on the same rows share what they can.

    Parameters
    ----------
    n_components : int
        Latent dimensions of the largest model.
    """
    models: dict[Hashable, Any] = {}

    def linear(run: "Run") -> Any:
        """Fit the linear model of a run's rows, once."""
        key, n_factors = id(run.train), run.architecture.n_factors
        if key not in models:
            rows = run.train.arrays()
            if n_factors:
                models[key] = FactorModel.of(*rows, n_factors)
            else:
                models[key] = Spectrum.of(*rows, n_components)
        return models[key]

    def start(run: "Run") -> LinearStart:
        own = run.architecture
        codes = own.posterior.codes(own.n_components)
        if not codes.n_variables:
            return linear(run).start(own.n_components, run.prior_rows)
        key = id(run.train), run.plan.seed, run.prior_rows
        if key not in models:
            generator = np.random.default_rng(stream_seed(run.plan.seed, Stream.CLUSTERS))
            x, weight = run.train.arrays()
            models[key] = clustered(x, weight, codes, own.n_components, generator, run.prior_rows)
        if not own.n_factors:
            return models[key]
        return replace(models[key], filler=linear(run).start(1).filler)

    return start
