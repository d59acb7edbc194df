"""Functions of the runtime are those of torch."""

import numpy as np
import torch

from sklearn_vae.networks import ACTIVATIONS
from sklearn_vae.runtime import functions


def test_activations_are_those_of_torch():
    x = np.linspace(-40, 40, 401)
    assert ACTIVATIONS.keys() == functions.ACTIVATIONS.keys()
    for name, activation in functions.ACTIVATIONS.items():
        expected = ACTIVATIONS[name](torch.as_tensor(x)).numpy()
        np.testing.assert_allclose(activation(x), expected, rtol=1e-12, atol=1e-14)
