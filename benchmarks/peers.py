"""The systems that this package is compared with, each brought to the same work.

The same work is: the rows of one float32 table, already standardized; SiLU networks whose
widths the decoder mirrors; one normal draw of z per row; Adam at 1e-3 without weight decay;
the same batch size in float32 on the CPU; a fixed number of passes over all rows in shuffled
batches; no validation rows and no early stopping.

An adapter is ``prepare(X, work) -> run``: what it does before it returns is not timed, ``run()``
is one whole fit and returns the number of gradient steps taken, so that costs are compared per
step. Where a system does extra work that no option turns off, the adapter gives it the benefit
of the doubt, and its docstring says how. What cannot be made equal is said there too.
"""

import contextlib
import io
import logging
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

OURS = "sklearn_vae"
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Workload:
    """One table and one network: what every system is asked to fit."""

    n_rows: int
    n_columns: int
    batch_size: int
    widths: tuple[int, ...]
    n_components: int
    epochs: int
    binary: bool = False

    @property
    def n_steps(self) -> int:
        """Gradient steps of the whole fit when the last, shorter batch is used."""
        return self.epochs * self.steps_per_pass

    @property
    def steps_per_pass(self) -> int:
        """Gradient steps of one pass over the rows."""
        return math.ceil(self.n_rows / self.batch_size)

    def rows(self) -> np.ndarray:
        """Return a noisy curved sheet, its columns standardized (or cut to 0 and 1)."""
        rng = np.random.default_rng(0)
        z = rng.standard_normal((self.n_rows, self.n_components))
        w = rng.standard_normal((self.n_components, self.n_columns))
        X = np.tanh(z @ w) + 0.3 * rng.standard_normal((self.n_rows, self.n_columns))
        X = (X > 0.5) if self.binary else (X - X.mean(axis=0)) / X.std(axis=0)

        return X.astype(np.float32)


WORKLOADS = {
    "W1": Workload(20_000, 30, 128, (128, 64), n_components=8, epochs=5),
    "W2": Workload(20_000, 30, 1024, (128, 64), n_components=8, epochs=10),
    "W3": Workload(500, 10, 64, (32, 16), n_components=4, epochs=100),
    "W4": Workload(20_000, 784, 256, (512, 256), n_components=16, epochs=4, binary=True),
}


def silu_layers(*widths: int) -> list[nn.Module]:
    """Return Linear and SiLU in turn, from the first width to the last."""
    return [layer for i, o in pairwise(widths) for layer in (nn.Linear(i, o), nn.SiLU())]


class TextbookVAE(nn.Module):
    """The variational autoencoder as tutorials write it."""

    def __init__(self, work: Workload):
        super().__init__()
        mirrored = (work.n_components, *reversed(work.widths))
        self.encoder = nn.Sequential(*silu_layers(work.n_columns, *work.widths))
        self.loc = nn.Linear(work.widths[-1], work.n_components)
        self.log_variance = nn.Linear(work.widths[-1], work.n_components)
        self.decoder = nn.Sequential(
            *silu_layers(*mirrored), nn.Linear(mirrored[-1], work.n_columns)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.encoder(x)
        loc, log_variance = self.loc(h), self.log_variance(h)
        z = loc + torch.exp(0.5 * log_variance) * torch.randn_like(loc)

        return self.decoder(z), loc, log_variance


class NegativeELBO(nn.Module):
    """Nats per row: unit-variance Gaussian or Bernoulli reconstruction, plus beta times the KL."""

    def __init__(self, binary: bool, beta: float = 1.0):
        super().__init__()
        self.binary, self.beta = binary, beta

    def forward(self, outputs: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        decoded, loc, log_variance = outputs
        if self.binary:
            reconstruction = F.binary_cross_entropy_with_logits(decoded, x, reduction="sum")
        else:
            reconstruction = 0.5 * F.mse_loss(decoded, x, reduction="sum")
        kl = -0.5 * torch.sum(1 + log_variance - loc.pow(2) - log_variance.exp())

        return (reconstruction + self.beta * kl) / len(x)


def train_textbook(
    X: np.ndarray, work: Workload, beta: float = 1.0, device: str = "cpu"
) -> tuple[TextbookVAE, int]:
    """Train as tutorials do; return the model and the number of gradient steps."""
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(torch.from_numpy(X)), work.batch_size, shuffle=True)
    model, criterion = TextbookVAE(work).to(device), NegativeELBO(work.binary, beta)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    model.train()
    losses = []
    for _ in range(work.epochs):
        for (batch,) in loader:
            x = batch.to(device)
            optimizer.zero_grad()
            loss = criterion(model(x), x)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

    return model, len(losses)


class ScaledVAE(nn.Module):
    """The textbook's VAE with one learned scale per column, which gives it a density."""

    def __init__(self, n_columns: int, n_latent: int, widths: tuple[int, ...] = (128, 64)):
        super().__init__()
        self.encoder = perceptron(n_columns, *widths, 2 * n_latent)
        self.decoder = perceptron(n_latent, *reversed(widths), n_columns)
        self.log_scale = nn.Parameter(torch.zeros(n_columns))

    def log_weight(self, x: Tensor, n_draws: int, widen: float = 1.0) -> Tensor:
        """log p(x|z) + log p(z) - log q(z|x) of draws of z: (n_draws, B)."""
        loc, log_scale = self.encoder(x).chunk(2, dim=-1)
        log_scale = log_scale.clamp(-7, 7) + math.log(widen)
        noise = torch.randn(n_draws, *loc.shape)
        z = loc + log_scale.exp() * noise
        residual = (x - self.decoder(z)) * (-self.log_scale).exp()
        log_lik = -(0.5 * residual**2 + self.log_scale + 0.5 * math.log(2 * math.pi)).sum(-1)
        return log_lik + (0.5 * noise**2 + log_scale - 0.5 * z**2).sum(-1)

    @torch.no_grad()
    def score(self, X: np.ndarray, n_draws: int = 2_048) -> float:
        """Mean log p(x) in nats, by importance sampling."""
        parts = torch.as_tensor(X, dtype=torch.float32).split(50)
        weights = torch.cat([self.log_weight(x, n_draws, widen=1.2) for x in parts], dim=1)
        return float((weights.logsumexp(0) - math.log(n_draws)).mean())


def perceptron(*widths: int) -> nn.Sequential:
    layers = [layer for i, o in pairwise(widths) for layer in (nn.Linear(i, o), nn.SiLU())]
    return nn.Sequential(*layers[:-1])


def scaled_vae(X: np.ndarray, n_latent: int, seed: int, n_steps: int = 6_000) -> ScaledVAE:
    """Train on standardized rows: Adam on batches of 128, with a cosine from 2e-3 to 0."""
    torch.manual_seed(seed)
    x, model = torch.as_tensor(X, dtype=torch.float32), ScaledVAE(X.shape[1], n_latent)
    adam = torch.optim.Adam(model.parameters(), lr=2e-3)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(adam, n_steps)
    for _ in range(n_steps):
        batch = x[torch.randint(len(x), (128,))]
        adam.zero_grad()
        (-model.log_weight(batch, 1).mean()).backward()
        adam.step()
        rates.step()

    return model


def textbook(X: np.ndarray, work: Workload) -> Callable[[], int]:
    """DataLoader, torch.optim.Adam, and ``.item()`` on every batch's loss."""
    return lambda: train_textbook(X, work)[1]


def skorch(X: np.ndarray, work: Workload) -> Callable[[], int]:
    """``skorch.NeuralNet`` with its default callbacks, the textbook module and loss.

    Its default validation split is off and its printing silent; X is its own target.
    """
    from skorch import NeuralNet

    def run() -> int:
        net = NeuralNet(
            TextbookVAE,
            criterion=NegativeELBO,
            module__work=work,
            criterion__binary=work.binary,
            optimizer=torch.optim.Adam,
            lr=LEARNING_RATE,
            max_epochs=work.epochs,
            batch_size=work.batch_size,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
        ).fit(X, X)

        return sum(len(epoch["batches"]) for epoch in net.history)

    return run


def _pyod(detector_class: type, work: Workload, **options: Any) -> Any:
    """Return a PyOD network without dropout, batch norm, weight decay or scaling of its own.

    Its activation is ReLU: it has no SiLU.
    """
    return detector_class(
        lr=LEARNING_RATE,
        epoch_num=work.epochs,
        batch_size=work.batch_size,
        preprocessing=False,
        batch_norm=False,
        dropout_rate=0.0,
        optimizer_params={},
        device=torch.device("cpu"),
        verbose=0,
        **options,
    )


def train_pyod(detector: Any, X: np.ndarray, work: Workload) -> int:
    """Fit a PyOD network.

    It drops each pass's shorter batch, so its average step is up to 3% more work (W2, W3).
    """
    # fit ends with a score of all training rows: not the same work, so left out
    detector.decision_function = lambda X: np.arange(float(len(X)))
    detector.fit(X)

    return work.epochs * (work.n_rows // work.batch_size)


def pyod_vae_detector(work: Workload) -> Any:
    """Return PyOD's VAE with the clamp on its KL lifted (the default clamps it to 0)."""
    from pyod.models.vae import VAE

    return _pyod(
        VAE,
        work,
        encoder_neuron_list=list(work.widths),
        decoder_neuron_list=list(reversed(work.widths)),
        latent_dim=work.n_components,
        capacity=math.inf,
    )


def pyod_vae(X: np.ndarray, work: Workload) -> Callable[[], int]:
    """PyOD's VAE. Its loss is squared error also for binary columns: less than a Bernoulli."""
    return lambda: train_pyod(pyod_vae_detector(work), X, work)


def pyod_autoencoder(X: np.ndarray, work: Workload) -> Callable[[], int]:
    """PyOD's AutoEncoder: the same widths, but no draw, no KL and squared error only."""
    from pyod.models.auto_encoder import AutoEncoder

    options = {"hidden_neuron_list": [*work.widths, work.n_components]}

    return lambda: train_pyod(_pyod(AutoEncoder, work, **options), X, work)


def pythae_model(work: Workload) -> nn.Module:
    """Return pythae's VAE around the textbook's networks (its own have one width of 512)."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    parts = TextbookVAE(work)

    class Encoder(BaseEncoder):
        def forward(self, x):
            h = self.hidden(x)
            return ModelOutput(embedding=self.loc(h), log_covariance=self.log_variance(h))

    class Decoder(BaseDecoder):
        def forward(self, z):
            return ModelOutput(reconstruction=self.layers(z))

    encoder, decoder = Encoder(), Decoder()
    encoder.hidden, encoder.loc, encoder.log_variance = parts.encoder, parts.loc, parts.log_variance
    decoder.layers = nn.Sequential(parts.decoder, *[nn.Sigmoid()] * work.binary)
    config = VAEConfig(
        input_dim=(work.n_columns,),
        latent_dim=work.n_components,
        reconstruction_loss="bce" if work.binary else "mse",
    )

    return VAE(config, encoder, decoder)


def train_pythae(X: np.ndarray, work: Workload) -> nn.Module:
    """Train pythae's VAE by its BaseTrainer.

    Writing the model to disk at the end and copying the best model after each epoch cannot be
    turned off and count as its fit; it writes to a folder that is removed again.
    """
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    data, model = BaseDataset(torch.from_numpy(X), torch.zeros(len(X))), pythae_model(work)
    # its logs and progress bars cannot be turned off
    logging.disable(logging.INFO)
    quiet = contextlib.redirect_stderr(io.StringIO())
    with quiet, tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            per_device_train_batch_size=work.batch_size,
            num_epochs=work.epochs,
            learning_rate=LEARNING_RATE,
            no_cuda=True,
        )
        BaseTrainer(model, data, training_config=config).train()
    return model


def pythae(X: np.ndarray, work: Workload) -> Callable[[], int]:
    """pythae's VAE under its BaseTrainer."""

    def run() -> int:
        train_pythae(X, work)
        return work.n_steps

    return run


def vae_transformer(work: Workload, **options: Any) -> Any:
    """Return this package's estimator with the textbook's optimizer and passes.

    An iteration is one pass, or more where a pass is short: ``max_iter`` is what comes nearest
    to the others' steps.
    """
    from sklearn_vae import VAETransformer
    from sklearn_vae.training.jobs import MIN_STEPS

    return VAETransformer(
        work.n_components,
        hidden_layer_sizes=work.widths,
        max_iter=max(1, round(work.n_steps / max(work.steps_per_pass, MIN_STEPS))),
        batch_size=work.batch_size,
        learning_rate=LEARNING_RATE,
        weight_decay=0.0,
        early_stopping=False,
        device="cpu",
        random_state=0,
        **options,
    )


def vae_transformer_like_textbook(work: Workload) -> Any:
    """Return this package's estimator doing the textbook's work, and no more than it must.

    Its decoder gives each real column a mean only. What no option turns off is one learned
    scale per column, the linear path beside each network, and the start at PCA.
    """
    from sklearn_vae.likelihoods import Bernoulli, Gaussian

    likelihood = Bernoulli() if work.binary else Gaussian(scale="per_column")

    return vae_transformer(work, likelihood=likelihood, prior="normal")


def sklearn_vae(X: np.ndarray, work: Workload) -> Callable[[], int]:
    """This package doing the textbook's work."""
    return lambda: vae_transformer_like_textbook(work).fit(X).n_steps_


def sklearn_vae_defaults(X: np.ndarray, work: Workload) -> Callable[[], int]:
    """This package as it comes: the decoder gives a scale beside each mean of a real column."""
    return lambda: vae_transformer(work).fit(X).n_steps_


ADAPTERS = (
    textbook,
    skorch,
    pyod_vae,
    pyod_autoencoder,
    pythae,
    sklearn_vae,
    sklearn_vae_defaults,
)
SYSTEMS = {prepare.__name__: prepare for prepare in ADAPTERS}
PACKAGES = {
    "textbook": "torch",
    "pyod_vae": "pyod",
    "pyod_autoencoder": "pyod",
    "sklearn_vae_defaults": "sklearn_vae",
}


def fit_once(system: str, work: Workload) -> None:
    """Fit one pass over fresh rows: a warm-up, or the first fit of a process."""
    once = replace(work, epochs=1)
    SYSTEMS[system](once.rows(), once)()
