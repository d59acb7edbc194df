"""Real columns: scales per row, per column and fixed."""

import numpy as np
import torch
from scipy import stats

from sklearn_vae import VAETransformer
from sklearn_vae.likelihoods import Gaussian


def test_a_fixed_scale_is_not_learned(rng):
    """In the density, in a fit and in samples it is what it was set to."""
    X = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 3)) * 10
    vae = VAETransformer(2, likelihood=Gaussian(0.25), max_iter=3, random_state=0).fit(X)
    scale = 7 * np.tanh(vae.state_dict_["free"] / 7)
    x, z = (X - X.mean(axis=0)) / X.std(axis=0), vae.transform(X)
    module = vae.module_
    params = module.decode(torch.as_tensor(z)[None, None])[0]
    expected = stats.norm.logpdf(x, params[0][0, 0].numpy(), 0.25).sum(axis=1)

    np.testing.assert_allclose(scale, np.log(0.25), rtol=1e-6)
    found = module.likelihood.log_prob([params], torch.as_tensor(x)[None, None])[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-7)
    assert (Gaussian(0.25).depends_on_z, Gaussian(1).has_fixed_scale) == ((True, False), True)
