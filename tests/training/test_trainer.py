"""The training loop: losses, best parameters, divergence, and skorch's callbacks."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, LRScheduler

from sklearn_vae import VAETransformer
from sklearn_vae.likelihoods import LogNormal
from sklearn_vae.objectives import ELBO, KLWeight, LinearWarmup
from sklearn_vae.training.dataset import Dataset
from sklearn_vae.training.jobs import TrainingJob
from sklearn_vae.training.trainer import Trainer
from tests.training.conftest import CONFIG, NO_STEPS, to_dataset


def run(model, train, valid=None, config=CONFIG, optimizer_state=None, **kwargs):
    """Train silently and give the trainer."""
    kwargs = {"verbose": 0, **kwargs}
    job = TrainingJob(model.architecture, config, train, valid)
    net = Trainer(model, [job] * len(model.flat), **kwargs)
    net.train(optimizer_state)
    return net


def halves(x, **kwargs):
    """Rows to train and to validate on."""
    return to_dataset(x[::2], **kwargs), to_dataset(x[1::2], **kwargs)


@pytest.mark.parametrize("beta", [KLWeight(1.0), KLWeight(0.0), LinearWarmup(2.0, 4)])
def test_the_terms_of_the_history_add_up(beta, bent, make_model):
    """loss = reconstruction_loss + beta * kl_loss; validation is always at the final beta."""
    net = run(make_model(bent), *halves(bent), replace(CONFIG, beta=beta))
    final = beta(CONFIG.max_iter - 1)

    assert len(net.history) >= 3
    for k, row in enumerate(net.history):
        loss = row["reconstruction_loss"] + beta(k) * row["kl_loss"]
        assert row["loss"] == pytest.approx(loss, rel=1e-9)
        val_loss = row["val_reconstruction_loss"] + final * row["val_kl_loss"]
        assert row["val_loss"] == pytest.approx(val_loss, rel=1e-9)


def test_losses_are_recorded_in_the_tables_own_units(bent, make_model):
    """The offset of the scaling goes to the losses, not to the KL, and changes no weight."""
    plain = run(make_model(bent), *halves(bent))
    moved = run(make_model(bent), *halves(bent, offset=3.0))

    for one, other in zip(plain.history, moved.history, strict=True):
        for name in ("loss", "reconstruction_loss", "val_loss", "val_reconstruction_loss"):
            assert other[name] == pytest.approx(one[name] + 3)
        for name in ("kl_loss", "val_kl_loss"):
            assert other[name] == one[name]
    assert torch.equal(plain.module_.flat, moved.module_.flat)


@pytest.mark.parametrize("learning_rate", [1e-3, 1e-1, 10.0])
def test_the_model_ends_with_the_weights_that_validated_best(learning_rate, bent, make_model):
    """Training never makes it worse than any iteration, nor than its start."""
    train, valid = halves(bent)
    model = make_model(bent)

    def val_loss():
        net = Trainer(model, [TrainingJob(model.architecture, CONFIG, train, valid)], verbose=0)
        net.begin()
        return net.validate(valid)[0, 0]

    at_start = val_loss()
    net = run(model, train, valid, replace(CONFIG, learning_rate=learning_rate))
    expected = min([at_start, *net.history[:, "val_loss"]])

    assert net.results_[0].loss == expected
    assert val_loss() == pytest.approx(expected, rel=1e-12)


def test_training_learns_what_a_linear_model_cannot(bent, make_model):
    """A parabola's bend is worth more than a tenth of a nat."""
    net = run(make_model(bent), *halves(bent), replace(CONFIG, max_iter=30, min_steps_per_epoch=25))
    val_losses = net.history[:, "val_loss"]

    assert min(val_losses) < val_losses[0] - 0.1


def test_training_in_pieces_is_one_training(bent, make_model):
    """Training resumes from the optimizer's state and the number of the epoch."""
    train, whole, pieces = to_dataset(bent), make_model(bent), make_model(bent)
    run(whole, train, config=replace(CONFIG, n_iter_per_stage=(3, 0, 0)))
    state = None
    for epoch in range(3):
        piece = replace(CONFIG, n_iter_per_stage=(1, 0, 0), first_epoch=epoch)
        state = run(pieces, train, config=piece, optimizer_state=state).optimizer_.state_dict()

    torch.testing.assert_close(pieces.flat, whole.flat)


def test_validation_in_chunks_is_validation(bent, make_model, monkeypatch):
    """A large table is validated some rows at a time."""
    expected = run(make_model(bent), *halves(bent)).history[:, "val_loss"]
    monkeypatch.setattr("sklearn_vae.numerics.rows.DRAWS_AT_A_TIME", 7)

    np.testing.assert_allclose(
        run(make_model(bent), *halves(bent)).history[:, "val_loss"], expected, rtol=1e-9
    )


@dataclass(frozen=True)
class Watches(ELBO):
    """An objective that notes the first column of what it is validated on, and the table's size."""

    uses_aggregated_posterior = True
    seen: list = field(default_factory=list)
    n_rows: set = field(default_factory=set)

    def __call__(self, model, batch, beta=1.0):
        if not torch.is_grad_enabled():
            self.seen.append(batch.x[0, :, 0].tolist())
        self.n_rows.add(batch.n_rows)
        return super().__call__(model, batch, beta)


def test_rows_that_are_compared_are_a_fair_sample_of_their_table(bent, make_model, monkeypatch):
    """A sorted table would have its classes compared each with itself."""
    bent = bent[bent[:, 0].argsort()]
    monkeypatch.setattr("sklearn_vae.numerics.rows.DRAWS_AT_A_TIME", 16 * 7)
    watching, train_rows = Watches(), halves(bent)
    config = replace(CONFIG, objective=watching)
    net = run(make_model(bent), *train_rows, config=config)
    expected = run(make_model(bent), *train_rows).history[:, "val_loss"]
    chunks = watching.seen[: -(-60 // 7)]

    assert np.array_equal(np.sort(np.concatenate(chunks)), bent[1::2, 0])
    assert all(chunk[0] < bent[20, 0] and chunk[-1] > bent[100, 0] for chunk in chunks)
    assert watching.n_rows == {60}
    np.testing.assert_allclose(net.history[:, "val_loss"], expected, rtol=1e-6)


def test_warm_up_is_waited_for(bent, make_model):
    """While beta still changes, a validation loss at the final beta says nothing of patience."""
    slow = replace(CONFIG, max_iter=40, patience=2, learning_rate=1e-9, beta=LinearWarmup(1.0, 10))
    scheduler = run(make_model(bent), *halves(bent), slow).scheduler_

    assert 10 <= scheduler.n_iter[0, 0] < 15


# -- divergence --------------------------------------------------------------------------


@dataclass(frozen=True)
class Breaks(ELBO):
    """An objective that is infinite from a certain training step on."""

    steps: Iterator[int] | None = None

    def __call__(self, model, batch, beta=1.0):
        terms = super().__call__(model, batch, beta)
        if not torch.is_grad_enabled() or next(self.steps, None) is not None:
            return terms
        return terms._replace(loss=terms.loss * float("inf"))


@pytest.mark.parametrize("n_good", [0, 5, 9])
@pytest.mark.parametrize("validates", [True, False])
def test_a_loss_that_is_not_finite_costs_no_weights(validates, n_good, bent, make_model):
    """The last good weights are kept, and the user is told what to do."""
    model = make_model(bent)
    start = model.flat.clone()
    train, valid = halves(bent)
    config = replace(CONFIG, objective=Breaks(iter(range(n_good))))
    net = run(model, train, valid if validates else None, config=config)

    assert net.results_[0].diverged
    assert model.flat.isfinite().all()
    assert torch.equal(model.flat, start) == (n_good < CONFIG.n_steps(len(train)))


class BreaksWeights(Breaks):
    """An objective whose loss stays finite while its gradient does not."""

    def __call__(self, model, batch, beta=1.0):
        terms = ELBO.__call__(self, model, batch, beta)
        if next(self.steps, None) is None:
            terms.loss.register_hook(lambda gradient: gradient * float("nan"))
        return terms


def test_weights_that_break_in_the_very_last_step_are_not_kept(bent, make_model):
    """The last loss was computed before the step that broke them."""
    model = make_model(bent)
    start = model.flat.clone()
    breaks = BreaksWeights(iter(range(CONFIG.n_steps(len(bent)) - 1)))
    config = replace(CONFIG, n_iter_per_stage=(1, 0, 0), objective=breaks)
    run(model, to_dataset(bent), config=config)

    assert torch.equal(model.flat, start)


@pytest.mark.parametrize(("learning_rate", "dtype"), [(1e200, torch.float64), (1e8, torch.float32)])
def test_a_learning_rate_that_is_far_too_large_leaves_finite_weights(
    learning_rate, dtype, bent, make_model
):
    """One parameter's typing error must not end in NaN everywhere."""
    model = make_model(bent).to(dtype)
    model.flatten()
    config = replace(CONFIG, learning_rate=learning_rate, max_iter=20, weight_decay=0.0)
    net = run(model, to_dataset(bent.astype(str(dtype)[6:])), config=config)

    assert net.results_[0].diverged
    assert model.flat.isfinite().all()


def test_an_extreme_row_is_no_divergence(bent, make_model):
    """Its loss exceeds every limit, but a clipped step leaves the weights as good as before."""
    x = np.repeat(bent, 20, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(2400, 2))
    model, extreme = make_model(x), np.append(x, [[1e5, 1e5]], axis=0)
    net = run(model, to_dataset(extreme))

    assert max(row["loss"] for row in net.results_[0].history) > 1e4
    assert not net.results_[0].diverged
    train = to_dataset(x)
    assert net.validate(train)[0] < run(make_model(x), train, config=NO_STEPS).validate(train)[0]


def test_a_start_that_is_not_finite_is_an_error(bent, make_model):
    """There are no good weights to go back to."""
    model = make_model(bent)
    model.flat[0, 0] = float("nan")

    with pytest.raises(FloatingPointError, match="started from are not finite"):
        run(model, to_dataset(bent))


# -- skorch ------------------------------------------------------------------------------


class Events(Callback):
    """Write down what happens; stop when told to."""

    def __init__(self, stop_after=None, error=KeyboardInterrupt):
        self.stop_after = stop_after
        self.error = error
        self.seen = []

    def on_train_begin(self, net, **kwargs):
        self.seen.append("train begins")

    def on_epoch_begin(self, net, **kwargs):
        self.seen.append("begin")

    def on_epoch_end(self, net, **kwargs):
        self.seen.append("end")
        if len(net.history) == self.stop_after:
            raise self.error

    def on_train_end(self, net, **kwargs):
        self.seen.append("train ends")


def test_callbacks_are_called_in_every_iteration(bent, make_model):
    """In skorch's order."""
    events = Events()
    run(make_model(bent), to_dataset(bent), callbacks=[events])
    iterations = ["begin", "end"] * CONFIG.max_iter

    assert events.seen == ["train begins", *iterations, "train ends"]


def test_a_callback_can_stop_the_training(bent, make_model):
    """As skorch's own do: the best weights so far are kept, and no error reaches the user."""
    events = Events(stop_after=2)
    model = make_model(bent)
    start = model.flat.clone()
    wild = replace(CONFIG, learning_rate=10.0)  # both iterations are worse than the start
    net = run(model, *halves(bent), wild, callbacks=[events])

    assert len(net.history) == 2
    assert events.seen[-1] == "train ends"
    assert torch.equal(model.flat, start)


def test_a_callbacks_own_error_reaches_the_user(bent, make_model):
    """Only the wish to stop is caught."""
    events = Events(stop_after=2, error=ZeroDivisionError)

    with pytest.raises(ZeroDivisionError):
        run(make_model(bent), to_dataset(bent), callbacks=[events])
    assert events.seen[-1] == "train ends"


def test_skorchs_scheduler_schedules(bent, make_model):
    """torch's schedulers accept our Adam, and its steps follow them."""
    halving = LRScheduler(policy="StepLR", step_size=1, gamma=0.5)
    flat = replace(CONFIG, n_iter_per_stage=(1, 0, 0))
    both = replace(CONFIG, n_iter_per_stage=(2, 0, 0))
    first = run(make_model(bent), to_dataset(bent), config=flat).module_.flat
    plain = run(make_model(bent), to_dataset(bent), config=both).module_.flat
    net = run(make_model(bent), to_dataset(bent), config=both, callbacks=[halving])
    moved = net.module_.flat

    assert net.history[:, "event_lr"] == [0.01, 0.005]
    # Adam's second iteration is about half as long in the same direction
    ratio = (moved - first).norm() / (plain - first).norm()
    assert ratio.item() == pytest.approx(0.5, abs=0.1)


def test_a_line_is_printed_per_iteration_if_asked_for(bent, make_model, capsys):
    """verbose=1, and silence with 0."""
    run(make_model(bent), to_dataset(bent))
    silent = capsys.readouterr().out
    run(make_model(bent), to_dataset(bent), verbose=1)
    lines = capsys.readouterr().out.splitlines()

    assert silent == ""
    assert "reconstruction_loss" in lines[0]
    assert len(lines) == 2 + CONFIG.max_iter


@pytest.mark.gpu
def test_training_on_the_gpu_ends_near_that_on_the_cpu(bent, make_model):
    """The same numbers are drawn; only the order of sums differs."""
    on_gpu = Dataset.from_x(torch.as_tensor(bent).cuda(), None, float(len(bent)), 0.0)
    tables = [to_dataset(bent), on_gpu]
    models = [make_model(bent), make_model(bent).cuda()]
    models[1].flatten()
    on_cpu, on_gpu = (run(model, table) for model, table in zip(models, tables, strict=True))

    torch.testing.assert_close(on_gpu.module_.flat.cpu(), on_cpu.module_.flat, rtol=1e-5, atol=1e-6)


def test_validation_losses_are_in_the_units_of_the_validation_rows(monkeypatch, rng):
    """Logarithms change the measure row by row, so the log-determinant is that of these rows."""
    split, asides = Dataset.split, []

    def note(table, *args):
        parts = split(table, *args)
        asides.append(parts[1].indices().numpy())
        return parts

    monkeypatch.setattr(Dataset, "split", note)
    X = np.exp(3 * rng.standard_normal((60, 2)))
    vae = VAETransformer(1, max_iter=3, early_stopping=True, refit=False, random_state=0).fit(X)
    predictor, valid = vae._predictor(), X[asides[0]]
    x = torch.as_tensor(vae.columns_.transform(valid))[None]
    noise = torch.as_tensor(predictor.noise(4096))
    _, kl = predictor.module(x.numpy().dtype).elbo_terms(x, noise)
    best = min(record["val_loss"] for record in vae.history_)

    assert vae.columns_.likelihoods == [LogNormal(), LogNormal()]
    assert best == pytest.approx(
        kl.mean().item() - predictor.mean_log_prob(valid, 4096).mean(), abs=0.05
    )
