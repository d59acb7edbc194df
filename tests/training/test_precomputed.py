"""Rows whose missing values are imputed before training."""

import numpy as np
import pytest
import torch

from sklearn_vae import VAETransformer
from sklearn_vae.likelihoods import Gaussian
from sklearn_vae.models.architecture import Architecture
from sklearn_vae.models.vae import VAE
from sklearn_vae.objectives import ELBO
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.gradients import LossGradient


def incomplete_rows(n_rows=30, n_columns=4):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 2)) @ rng.normal(size=(2, n_columns))
    return np.where(rng.random(X.shape) < 0.3, np.nan, X + 0.1 * rng.normal(size=X.shape))


def model_of(n_members, n_factors=2):
    torch.manual_seed(0)
    blocks = ((Gaussian("per_row"), 4),)
    model = VAE(Architecture(2, (5,), blocks, n_factors=n_factors), n_members).double()
    model.flatten()
    for buffer in () if model.filler is None else model.filler.buffers():
        buffer.copy_(torch.rand_like(buffer[:1]).expand_as(buffer))
    return model


def test_members_on_different_rows_have_inputs_by_their_own_imputations():
    """As the fits of a search on several folds; two members share the rows of the second fold."""
    tables = [torch.tensor(incomplete_rows()), torch.tensor(incomplete_rows()[::-1].copy())]
    folds = [
        Dataset.from_x(x, None, 30, 0).subset(torch.arange(i, 20 + i)) for i, x in enumerate(tables)
    ]
    model, rows = model_of(3), Dataset.stack([folds[1], folds[0], folds[1]])
    model.filler.loc[1:] += torch.tensor([1, 2]).view(2, 1, 1)
    order = torch.tensor([[4, 0, 9]]).expand(3, -1)
    actual = LossGradient(model, ELBO()).impute_inputs(rows)
    expected = model.encoder_input(rows.take(order)[0])

    torch.testing.assert_close(actual.take(order)[0], expected)
    for members in ([1], [0, 2]):
        left = actual.select(torch.tensor(members))
        torch.testing.assert_close(left.take(order[: len(members)])[0], expected[members])


@pytest.mark.parametrize("params", [{}, {"n_init": 2, "ensemble": True}])
def test_training_is_the_same_as_by_imputation_at_every_step(params, monkeypatch):
    """The imputation layer has no weights that training changes."""
    X = incomplete_rows(200)
    vae = VAETransformer(2, max_iter=3, random_state=0, batch_size=64, **params)
    actual = vae.fit(X).state_dict_
    monkeypatch.setattr(LossGradient, "impute_inputs", lambda *_: None)
    expected = vae.fit(X).state_dict_

    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, atol=1e-4, err_msg=name)
