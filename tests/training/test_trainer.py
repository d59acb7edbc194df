"""Training: steps, Adam, the scheduler of a run and skorch's frame around it."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from scipy import stats
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, LRScheduler

from sklearn_vae import VAETransformer
from sklearn_vae.likelihoods import LogNormal
from sklearn_vae.objectives import ELBO, IWAE, Constant, LinearWarmup
from sklearn_vae.random import Stream, make_generator
from sklearn_vae.training import Dataset, StageScheduler, Trainer, TrainingConfig, sampler
from sklearn_vae.training.config import SHARED_DRAWS
from sklearn_vae.training.early_stopping import STAGES, split_stages
from sklearn_vae.training.optimizer import FlatAdam
from sklearn_vae.training.sampler import iterate_batches

PLAN = TrainingConfig(
    seed=0,
    max_iter=8,
    min_steps_per_epoch=4,
    batch_size=20,
    learning_rate=1e-2,
    weight_decay=0.01,
    beta=Constant(1.0),
    patience=3,
    tol=1e-3,
)
NO_STEPS = replace(PLAN, n_iter_per_stage=(0, 0, 0))
LIKE = torch.zeros(0, dtype=torch.float64)


def to_table(x, weight=None, offset=0.0):
    """Rows in memory."""
    weight = None if weight is None else torch.as_tensor(weight / weight.mean())
    return Dataset.from_x(torch.as_tensor(x), weight, float(len(x)), offset)


@pytest.fixture
def bent(rng):
    """Rows on a noisy parabola, which no linear model fits: (120, 2)."""
    u = rng.standard_normal(120)
    X = np.column_stack([u, u**2]) + 0.1 * rng.standard_normal((120, 2))
    return (X - X.mean(axis=0)) / X.std(axis=0)


# -- steps -------------------------------------------------------------------------------


def steps(config=PLAN, iteration=0, n_rows=103, n_components=2):
    """All steps of one iteration."""
    return list(iterate_batches(config, [config.seed], iteration, n_rows, n_components, LIKE))


@pytest.mark.parametrize(("n_rows", "batch_size"), [(103, 25), (100, 25), (7, 25), (1, 1), (9, 1)])
def test_each_pass_sees_each_row_once(n_rows, batch_size):
    """A last batch is never dropped, nor is it a batch of one row beside full ones."""
    n_batches = -(-n_rows // batch_size)
    found = steps(
        replace(PLAN, min_steps_per_epoch=3 * n_batches, batch_size=batch_size), n_rows=n_rows
    )
    sizes = [step.rows.shape[1] for step in found]

    assert len(found) == 3 * n_batches
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    for first in range(0, 3 * n_batches, n_batches):
        seen = torch.cat([step.rows[0] for step in found[first : first + n_batches]])
        assert sorted(seen.tolist()) == list(range(n_rows))


@pytest.mark.parametrize("n_steps", [1, 4, 5, 12, 13])
def test_an_iteration_has_its_number_of_steps(n_steps):
    """A pass of 4 at the least; also where it ends in the middle of a pass."""
    found = steps(replace(PLAN, min_steps_per_epoch=n_steps, batch_size=30))

    assert len(found) == max(n_steps, 4)


def test_every_pass_has_an_order_of_its_own():
    """The same batches again and again would be part of the model."""
    found = steps(replace(PLAN, min_steps_per_epoch=3, batch_size=200))
    orders = {tuple(step.rows[0].tolist()) for step in found}

    assert len(orders) == 3


def test_steps_follow_from_seed_and_iteration():
    """Training that goes on where it stopped takes the steps it would have taken."""

    def numbers(seed, iteration):
        found = steps(replace(PLAN, seed=seed), iteration)
        return [part.flatten().tolist() for step in found for part in step]

    assert numbers(3, 5) == numbers(3, 5)
    assert numbers(3, 5) != numbers(3, 6)
    assert numbers(3, 5) != numbers(4, 5)


@pytest.mark.parametrize("noise_rows", [1, 45, 1 << 16])
def test_each_row_has_noise_of_its_own(noise_rows, monkeypatch):
    """Standard normal, independent between rows, steps and blocks of steps."""
    monkeypatch.setattr(sampler, "NOISE_ROWS", noise_rows)
    found = steps(replace(PLAN, min_steps_per_epoch=60))
    noise = torch.cat([step.noise[0, 0] for step in found])

    assert all(step.noise.shape == (1, 1, step.rows.shape[1], 2) for step in found)
    assert len(noise.unique()) == noise.numel()
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 0.01


def test_rows_share_their_draws_where_the_plan_says_so():
    """Only then is a row of weight 2 exactly two rows."""
    found = steps(replace(PLAN, batch_size=103))

    assert {tuple(step.noise.shape) for step in found} == {(1, SHARED_DRAWS, 1, 2)}
    assert not torch.equal(found[0].noise, found[1].noise)


@pytest.mark.parametrize("n_draws", [1, 2, 3, 7])
@pytest.mark.parametrize("noise_rows", [1, 1 << 16])
def test_each_row_has_as_many_draws_as_the_objective_asks_for(n_draws, noise_rows, monkeypatch):
    """Of its own, or shared: then in whole sets, and not fewer than the elbo has."""
    monkeypatch.setattr(sampler, "NOISE_ROWS", noise_rows)
    own = steps(replace(PLAN, min_steps_per_epoch=20, objective=IWAE(n_draws)))
    noise = torch.cat([step.noise.flatten() for step in own])
    (shared,) = {
        step.noise.shape[1:]
        for step in steps(replace(PLAN, batch_size=103, objective=IWAE(n_draws)))
    }

    assert all(step.noise.shape == (1, n_draws, step.rows.shape[1], 2) for step in own)
    assert len(noise.unique()) == noise.numel()
    assert stats.kstest(noise.numpy(), "norm").pvalue > 0.001
    assert shared[0] % n_draws == 0
    assert SHARED_DRAWS <= shared[0] < SHARED_DRAWS + n_draws


@pytest.mark.parametrize("batch_size", [20, 103])
def test_more_components_leave_the_first_ones_noise_as_it_is(batch_size):
    """A grid of latent sizes is compared on the same numbers."""
    few, many = (
        steps(replace(PLAN, batch_size=batch_size), n_components=n_components)
        for n_components in (2, 5)
    )
    for one, other in zip(few, many, strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        assert one.noise.tolist() == other.noise[..., :2].tolist()


# -- tables ------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_a_split_gives_every_row_to_one_side(weighted, rng, generator):
    """Validation rows that were trained on validate nothing."""
    x = np.arange(30.0)[:, None]
    weight = rng.uniform(0.5, 2, 30) if weighted else None
    table = replace(to_table(x, weight), total_weight=np.array([75.0]))
    train, valid = table.split(20 if weighted else 8, generator)

    if not weighted:
        assert (len(train), len(valid)) == (22, 8)
    both = np.concatenate([part.arrays()[0] for part in (train, valid)])
    assert sorted(both.ravel().tolist()) == x.ravel().tolist()
    assert train.total_weight + valid.total_weight == pytest.approx(75)
    if weighted:
        assert valid.total_weight == pytest.approx(20, abs=2 * 75 / weight.sum() / 2)
        for part in (train, valid):
            own = weight[part.arrays()[0].ravel().astype(int)]
            np.testing.assert_allclose(part.weight.numpy(), own / own.mean())
            assert part.total_weight == pytest.approx(75 * own.sum() / weight.sum())


def test_a_table_gives_rows_with_their_weights(rng):
    """Rows by number and member."""
    x, weight = rng.standard_normal((10, 3)), rng.uniform(0.5, 2, 10)
    rows = torch.tensor([[1, 2, 7], [0, 9, 9]])
    ours, own = to_table(x, weight).take(rows)

    np.testing.assert_array_equal(ours.numpy(), x[rows.numpy()])
    np.testing.assert_array_equal(own.numpy(), (weight / weight.mean())[rows.numpy()])
    assert to_table(x).take(rows)[1] is None


# -- Adam --------------------------------------------------------------------------------


class TorchAdam:
    """torch's optimizer on one member's weights, whose matrices alone decay."""

    def __init__(self, kind, flat, model, lr, weight_decay):
        self.decays = model.decays.bool()
        self.parts = [flat[self.decays].clone(), flat[~self.decays].clone()]
        groups = [{"params": self.parts[:1], "weight_decay": weight_decay}]
        groups += [{"params": self.parts[1:], "weight_decay": 0.0}]
        self.optimizer = kind(groups, lr=lr, betas=FlatAdam.BETAS, eps=FlatAdam.EPS)

    def step(self, gradient):
        for part, own in zip(self.parts, (self.decays, ~self.decays), strict=True):
            part.grad = gradient[own]
        self.optimizer.step()

    @property
    def flat(self):
        flat = torch.empty(len(self.decays), dtype=self.parts[0].dtype)
        flat[self.decays], flat[~self.decays] = self.parts
        return flat


def gradients(n_steps, shape):
    """Random gradients of very different sizes."""
    generator = torch.Generator().manual_seed(3)
    sizes = torch.logspace(-6, 3, shape[-1]).double()
    return [
        sizes * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(n_steps)
    ]


@pytest.mark.parametrize(
    ("kind", "weight_decay"), [(torch.optim.AdamW, 0.3), (torch.optim.Adam, 0.0)]
)
def test_adam_is_torchs_adam_step_by_step(kind, weight_decay, table, make_model):
    """One flat tensor is faster, not another method; only the matrices decay."""
    model = make_model(table)
    ours = FlatAdam(model, 1e-2, weight_decay)
    oracle = TorchAdam(kind, model.flat[0], model, 1e-2, weight_decay)

    for gradient in gradients(12, model.flat.shape):
        model.flat_grad.copy_(gradient)
        ours.step()
        oracle.step(gradient[0])
        torch.testing.assert_close(model.flat[0], oracle.flat, rtol=1e-9, atol=1e-12)


def test_each_member_has_its_own_step_size(table, make_model):
    """Members leave their stages at different times; one that is done stands still."""
    model = make_model(table, table, table, table)
    before = model.flat.clone()
    rates = np.array([1e-2, 0.0, 1e-3, 1e-2])
    ours = FlatAdam(model, 1e-2, 0.3)
    ours.lrs = rates
    oracles = [
        TorchAdam(torch.optim.AdamW, flat, model, lr, 0.3)
        for flat, lr in zip(model.flat, rates, strict=True)
    ]
    for gradient in gradients(5, model.flat.shape):
        model.flat_grad.copy_(gradient)
        ours.step()
        for own, oracle in zip(gradient, oracles, strict=True):
            oracle.step(own)
    expected = torch.stack([oracle.flat for oracle in oracles])

    torch.testing.assert_close(model.flat, expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(model.flat[1], before[1])
    assert ours.count.tolist() == [5, 0, 5, 5]


def test_a_reset_concerns_the_moments_of_its_members_only(table, make_model):
    """A new stage begins with a smaller step, not with the old momentum."""
    model = make_model(table, table)
    first, *rest = gradients(5, model.flat.shape)
    ours = FlatAdam(model, 1e-2, 0.0)
    model.flat_grad.copy_(first)
    ours.step()
    oracle = TorchAdam(torch.optim.Adam, model.flat[1], model, 1e-2, 0.0)
    ours.reset(np.array([False, True]))

    for gradient in rest:
        model.flat_grad.copy_(gradient)
        ours.step()
        oracle.step(gradient[1])
    torch.testing.assert_close(model.flat[1], oracle.flat, rtol=1e-9, atol=1e-12)
    assert ours.count.tolist() == [5, 4]


def test_a_reset_zeroes_moments_that_are_not_finite(table, make_model):
    """0 times NaN is NaN: forgetting must not be multiplying."""
    model = make_model(table)
    ours = FlatAdam(model, 1e-2, 0.0)
    model.flat_grad.fill_(float("nan"))
    ours.step()
    ours.reset(np.array([True]))

    assert all((moment == 0).all() for moment in ours.moments.values())


def test_adam_goes_on_from_its_state(table, make_model):
    """partial_fit is one training in pieces."""
    models = [make_model(table), make_model(table)]
    through = FlatAdam(models[0], 1e-2, 0.1)
    pieces = FlatAdam(models[1], 1e-2, 0.1)
    for step, gradient in enumerate(gradients(6, models[0].flat.shape)):
        for model in models:
            model.flat_grad.copy_(gradient)
        if step == 3:
            state = pieces.state_dict()
            pieces = FlatAdam(models[1], 1e-2, 0.1)
            pieces.load_state_dict(state)
        through.step()
        pieces.step()

    torch.testing.assert_close(models[1].flat, models[0].flat, rtol=0, atol=0)


def test_a_callbacks_schedule_scales_every_members_step(table, make_model):
    """torch's schedulers change the group's step size; the stages' shares stay."""
    model = make_model(table)
    (gradient,) = gradients(1, model.flat.shape)
    ours = FlatAdam(model, 1e-2, 0.3)
    oracle = TorchAdam(torch.optim.AdamW, model.flat[0], model, 1.5e-3, 0.3)
    ours.lrs = np.array([3e-3])
    ours.param_groups[0]["lr"] = 0.5e-2
    model.flat_grad.copy_(gradient)
    ours.step()
    oracle.step(gradient[0])

    torch.testing.assert_close(model.flat[0], oracle.flat, rtol=1e-9, atol=1e-12)


def test_gradients_are_set_to_zero_in_place(table, make_model):
    """They are views of one tensor; a new one would cut them off."""
    model = make_model(table)
    model.flat_grad.fill_(1)
    FlatAdam(model, 1e-2, 0.0).zero_grad(set_to_none=True)

    assert all((param.grad == 0).all() for param in model.parameters())
    model.flat_grad.fill_(2)
    assert all((param.grad == 2).all() for param in model.parameters())


# -- scheduler ------------------------------------------------------------------------------


@pytest.mark.parametrize("max_iter", range(1, 40))
def test_the_stages_share_all_iterations(max_iter):
    """None is lost to rounding, and the first stage gets the most."""
    lengths = split_stages(max_iter)

    assert sum(lengths) == max_iter
    assert lengths[0] >= max(lengths[1:])


def go(config, val_losses, losses=None):
    """A scheduler whose weights count: each iteration adds its step size to them.

    Losses are (iterations, members); the scheduler ends with them or by itself.
    """
    val_losses = np.atleast_2d(np.asarray(val_losses, dtype=float).T).T
    losses = np.zeros_like(val_losses) if losses is None else np.asarray(losses, dtype=float)
    flat = torch.zeros(val_losses.shape[1], 1).double()
    scheduler = StageScheduler([config] * len(flat), flat)
    for loss, val_loss in zip(losses, val_losses, strict=True):
        if scheduler.done.all():
            break
        flat += torch.as_tensor(scheduler.learning_rates())[:, None]
        scheduler.step(loss, None if np.isnan(val_losses).all() else val_loss, flat)
    return scheduler, flat[:, 0].numpy()


def test_step_sizes_fall_by_stage():
    """1, 0.3 and 0.1 of the first, then nothing."""
    scheduler = StageScheduler([replace(PLAN, learning_rate=0.5)] * 4, torch.zeros(4, 1))
    scheduler.stage[:] = [0, 1, 2, 3]

    np.testing.assert_allclose(scheduler.learning_rates(), [0.5, 0.15, 0.05, 0])
    assert scheduler.done.tolist() == [False, False, False, True]


def test_without_validation_every_iteration_is_done():
    """8 iterations: 4, 2 and 2, and the last weights are kept."""
    scheduler, flat = go(PLAN, np.full(20, np.nan), np.zeros((20, 1)))

    assert scheduler.n_iter.tolist() == scheduler.best_n_iter.tolist() == [[4, 2, 2]]
    np.testing.assert_allclose(flat, 0.01 * (4 + 2 * 0.3 + 2 * 0.1))
    np.testing.assert_allclose(scheduler.best_params[:, 0], flat)


@pytest.mark.parametrize("lengths", [(3, 0, 2), (0, 0, 1), (0, 4, 0)])
def test_given_stage_lengths_are_followed(lengths):
    """A refit repeats the steps that were found with rows set aside."""
    scheduler, flat = go(
        replace(PLAN, n_iter_per_stage=lengths), np.full(20, np.nan), np.zeros((20, 1))
    )

    assert scheduler.n_iter.tolist() == [list(lengths)]
    np.testing.assert_allclose(flat, 0.01 * (np.array(lengths) @ STAGES))


def test_no_iterations_at_all_keep_the_start():
    """If nothing was ever better than the start, a refit has nothing to do."""
    scheduler, flat = go(replace(PLAN, n_iter_per_stage=(0, 0, 0)), np.zeros((3, 1)))

    assert scheduler.done.all()
    assert flat.tolist() == [0]


def test_a_stage_ends_when_patience_does():
    """Two iterations without a gain end it; the next one starts from the best weights."""
    patient = replace(PLAN, max_iter=100, patience=2)
    scheduler, flat = go(patient, [5, 4, 4.5, 4.2])

    assert scheduler.stage.tolist() == [1]
    assert scheduler.n_iter.tolist() == [[4, 0, 0]]
    assert scheduler.best_loss.tolist() == [4]
    assert scheduler.best_n_iter.tolist() == [[2, 0, 0]]
    np.testing.assert_allclose(flat, 0.02)


def test_gains_below_the_tolerance_are_kept_but_try_the_patience():
    """Creeping on for ever is no progress; small gains that add up are."""
    patient = replace(PLAN, max_iter=100, patience=3, tol=0.1)
    creeping, _ = go(patient, [5, 4.96, 4.95, 4.94])
    adding, _ = go(patient, [5, 4.96, 4.92, 4.88, 4.84, 4.80])

    assert creeping.stage.tolist() == [1]
    assert creeping.best_loss.tolist() == [4.94]
    assert creeping.best_n_iter.tolist() == [[4, 0, 0]]
    assert adding.stage.tolist() == [0]


def test_training_is_over_after_three_stages_without_gain():
    """The first iteration was the best; each stage waited in vain."""
    scheduler, flat = go(replace(PLAN, max_iter=100, patience=2), [1.0] + [2.0] * 50)

    assert scheduler.done.all()
    assert scheduler.n_iter.tolist() == [[3, 2, 2]]
    assert scheduler.best_n_iter.tolist() == [[1, 0, 0]]
    np.testing.assert_allclose(flat, 0.01)


@pytest.mark.parametrize("seed", range(20))
def test_best_n_iter_leads_to_the_best_parameters(seed):
    """Training again for best_n_iter epochs gives best_params, which have the lowest loss."""
    rng = np.random.default_rng(seed)
    val_losses = rng.standard_normal((40, 3)).cumsum(axis=0).round(1)
    losses = np.where(rng.random((40, 3)) < 0.05, np.inf, 0.0)
    wild = replace(PLAN, max_iter=30, patience=4, tol=0.1)
    scheduler, flat = go(wild, val_losses, losses)
    rates = 0.01 * np.array(STAGES)

    assert scheduler.done.all()
    np.testing.assert_allclose(
        scheduler.best_params[:, 0], scheduler.best_n_iter @ rates, atol=1e-12
    )
    np.testing.assert_allclose(flat, scheduler.best_params[:, 0], atol=1e-12)
    assert (scheduler.best_n_iter <= scheduler.n_iter).all()
    assert (scheduler.n_iter <= split_stages(30)).all()
    for member, n_seen in enumerate(scheduler.n_iter.sum(axis=1)):
        finite = np.isfinite(losses[:n_seen, member])
        best = val_losses[:n_seen, member][finite].min(initial=np.inf)
        assert scheduler.best_loss[member] == best


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("validates", [True, False])
def test_a_member_that_diverges_goes_back_and_takes_smaller_steps(validates, loss):
    """The other members do not notice."""
    val_losses = (
        np.full((3, 2), 5.0) - np.arange(3)[:, None] if validates else np.full((3, 2), np.nan)
    )
    losses = np.zeros((3, 2))
    losses[2, 1] = loss
    scheduler, flat = go(replace(PLAN, max_iter=100), val_losses, losses)

    assert scheduler.diverged.tolist() == [False, True]
    assert scheduler.stage.tolist() == [0, 1]
    assert scheduler.best_n_iter.tolist() == [[3, 0, 0], [2, 0, 0]]
    np.testing.assert_allclose(flat, [0.03, 0.02])


def test_a_validation_loss_that_is_not_finite_is_never_the_best():
    """NaN compares with nothing."""
    scheduler, _ = go(replace(PLAN, max_iter=100), [5.0, np.nan, np.inf, 4.0])

    assert scheduler.best_loss.tolist() == [4]
    assert scheduler.best_n_iter.tolist() == [[4, 0, 0]]


# -- trainer -----------------------------------------------------------------------------


def run(model, train, valid=None, own=PLAN, objective=None, moments=None, **kwargs):
    """Train silently and give the trainer."""
    kwargs = {"verbose": 0, **kwargs}
    net = Trainer(model, [own] * len(model.flat), objective or ELBO(), **kwargs)
    net.train(train, valid, moments)
    return net


def halves(x, **kwargs):
    """Rows to train and to validate on."""
    return to_table(x[::2], **kwargs), to_table(x[1::2], **kwargs)


@pytest.mark.parametrize("beta", [Constant(1.0), Constant(0.0), LinearWarmup(2.0, 4)])
def test_the_terms_of_the_history_add_up(beta, bent, make_model):
    """loss = reconstruction_loss + beta * kl_loss; validation is always at the final beta."""
    net = run(make_model(bent), *halves(bent), replace(PLAN, beta=beta))
    final = beta(PLAN.max_iter - 1)

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
        net = Trainer(model, [PLAN], ELBO(), verbose=0)
        net.begin(train, valid)
        return net.validate(valid)[0, 0]

    at_start = val_loss()
    net = run(model, train, valid, replace(PLAN, learning_rate=learning_rate))
    expected = min([at_start, *net.history[:, "val_loss"]])

    assert net.results_[0].loss == expected
    assert val_loss() == pytest.approx(expected, rel=1e-12)


def test_training_learns_what_a_linear_model_cannot(bent, make_model):
    """A parabola's bend is worth more than a tenth of a nat."""
    net = run(make_model(bent), *halves(bent), replace(PLAN, max_iter=30, min_steps_per_epoch=25))
    val_losses = net.history[:, "val_loss"]

    assert min(val_losses) < val_losses[0] - 0.1


def test_the_same_plan_gives_the_same_bits(bent, make_model):
    """Nothing but the plan's seed decides."""
    one, again, other = (
        run(make_model(bent), *halves(bent), replace(PLAN, seed=seed)) for seed in (0, 0, 1)
    )

    assert torch.equal(one.module_.flat, again.module_.flat)
    assert not torch.equal(one.module_.flat, other.module_.flat)
    assert one.history[:, "loss"] == again.history[:, "loss"]


def test_training_leaves_global_random_states_alone(bent, make_model):
    """skorch and torch are not asked for a single number."""
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    run(make_model(bent), *halves(bent))

    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


def test_training_in_pieces_is_one_training(bent, make_model):
    """With the moments and the number of the iteration, a stop leaves no trace."""
    train, whole, pieces = to_table(bent), make_model(bent), make_model(bent)
    run(whole, train, own=replace(PLAN, n_iter_per_stage=(3, 0, 0)))
    moments = None
    for iteration in range(3):
        piece = replace(PLAN, n_iter_per_stage=(1, 0, 0), first_epoch=iteration)
        moments = run(pieces, train, own=piece, moments=moments).optimizer_.state_dict()

    torch.testing.assert_close(pieces.flat, whole.flat)


def test_a_weight_is_a_number_of_copies(bent, rng, make_model):
    """Where every step sees the whole table, training cannot tell them apart."""
    weight = rng.integers(1, 4, len(bent))
    copies = np.repeat(bent, weight, axis=0)
    whole = replace(PLAN, batch_size=1000, n_iter_per_stage=(3, 2, 1))
    expected = run(make_model(bent), to_table(copies), own=whole)
    ours = run(make_model(bent), to_table(bent, weight), own=whole)

    torch.testing.assert_close(ours.module_.flat, expected.module_.flat, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(ours.history[:, "loss"], expected.history[:, "loss"], rtol=1e-7)


def test_a_validation_weight_is_a_number_of_copies(bent, rng, make_model):
    """Weights count where weights are chosen, too."""
    train, _ = halves(bent)
    weight = rng.integers(1, 3, 60)
    first, second = (
        run(make_model(bent), train, valid).history[:, "val_loss"]
        for valid in (to_table(np.repeat(bent[1::2], weight, axis=0)), to_table(bent[1::2], weight))
    )

    np.testing.assert_allclose(second, first, rtol=1e-9)


def test_validation_in_chunks_is_validation(bent, make_model, monkeypatch):
    """A large table is validated some rows at a time."""
    expected = run(make_model(bent), *halves(bent)).history[:, "val_loss"]
    monkeypatch.setattr("sklearn_vae.training.run.VALIDATION_DRAWS_AT_A_TIME", 7)

    np.testing.assert_allclose(
        run(make_model(bent), *halves(bent)).history[:, "val_loss"], expected, rtol=1e-9
    )


@dataclass(frozen=True)
class Watches(ELBO):
    """An objective that notes the first column of what it is validated on, and the table's size."""

    uses_aggregated_posterior = True
    seen: list = field(default_factory=list)
    n_rows: set = field(default_factory=set)

    def __call__(self, model, batch, state):
        if not torch.is_grad_enabled():
            self.seen.append(batch.x[0, :, 0].tolist())
        self.n_rows.add(state.n_rows)
        return super().__call__(model, batch, state)


def test_rows_that_are_compared_are_a_fair_sample_of_their_table(bent, make_model, monkeypatch):
    """A sorted table would have its classes compared each with itself."""
    bent = bent[bent[:, 0].argsort()]
    monkeypatch.setattr("sklearn_vae.training.run.VALIDATION_DRAWS_AT_A_TIME", 16 * 7)
    watching, train_rows = Watches(), halves(bent)
    net = run(make_model(bent), *train_rows, objective=watching)
    expected = run(make_model(bent), *train_rows).history[:, "val_loss"]
    chunks = watching.seen[: -(-60 // 7)]

    assert np.array_equal(np.sort(np.concatenate(chunks)), bent[1::2, 0])
    assert all(chunk[0] < bent[20, 0] and chunk[-1] > bent[100, 0] for chunk in chunks)
    assert watching.n_rows == {60}
    np.testing.assert_allclose(net.history[:, "val_loss"], expected, rtol=1e-6)


def test_without_validation_the_whole_plan_is_done(bent, make_model):
    """A refit has nothing to stop it."""
    net = run(make_model(bent), to_table(bent))

    assert len(net.history) == PLAN.max_iter
    assert "val_loss" not in net.history[-1]
    assert net.scheduler_.n_iter.tolist() == [list(split_stages(PLAN.max_iter))]


def test_warm_up_is_waited_for(bent, make_model):
    """While beta still changes, a validation loss at the final beta says nothing of patience."""
    slow = replace(PLAN, max_iter=40, patience=2, learning_rate=1e-9, beta=LinearWarmup(1.0, 10))
    scheduler = run(make_model(bent), *halves(bent), slow).scheduler_

    assert 10 <= scheduler.n_iter[0, 0] < 15


def test_warm_up_is_waited_for_by_the_least_patient(bent, make_model):
    """n_iter_no_change=1 is allowed, and no reason to stop before the KL counts."""
    slow = replace(PLAN, max_iter=40, patience=1, learning_rate=1e-9, beta=LinearWarmup(1.0, 10))
    scheduler = run(make_model(bent), *halves(bent), slow).scheduler_

    assert scheduler.n_iter[0, 0] >= 10


def test_members_are_trained_as_single_models_are(rng, make_model):
    """A fleet is a module with a leading member axis."""
    x = rng.standard_normal((40, 3))
    fleet = run(make_model(x, x), to_table(x))
    single = run(make_model(x), to_table(x))

    torch.testing.assert_close(fleet.module_.flat[[0]], single.module_.flat)


# -- divergence --------------------------------------------------------------------------


class Breaks(ELBO):
    """An objective that is infinite from a certain training step on."""

    def __init__(self, n_good):
        object.__setattr__(self, "steps", iter(range(n_good)))

    def __call__(self, model, batch, state):
        terms = super().__call__(model, batch, state)
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
    net = run(model, train, valid if validates else None, objective=Breaks(n_good))

    assert net.results_[0].diverged
    assert model.flat.isfinite().all()
    assert torch.equal(model.flat, start) == (n_good < PLAN.n_steps(len(train)))


class BreaksWeights(Breaks):
    """An objective whose loss stays finite while its gradient does not."""

    def __call__(self, model, batch, state):
        terms = ELBO.__call__(self, model, batch, state)
        if next(self.steps, None) is None:
            terms.loss.register_hook(lambda gradient: gradient * float("nan"))
        return terms


def test_weights_that_break_in_the_very_last_step_are_not_kept(bent, make_model):
    """The last loss was computed before the step that broke them."""
    model = make_model(bent)
    start = model.flat.clone()
    one = replace(PLAN, n_iter_per_stage=(1, 0, 0))
    run(model, to_table(bent), own=one, objective=BreaksWeights(PLAN.n_steps(len(bent)) - 1))

    assert torch.equal(model.flat, start)


@pytest.mark.parametrize(("learning_rate", "dtype"), [(1e200, torch.float64), (1e8, torch.float32)])
def test_a_learning_rate_that_is_far_too_large_leaves_finite_weights(
    learning_rate, dtype, bent, make_model
):
    """One parameter's typing error must not end in NaN everywhere."""
    model = make_model(bent).to(dtype)
    model.flatten()
    config = replace(PLAN, learning_rate=learning_rate, max_iter=20, weight_decay=0.0)
    net = run(model, to_table(bent.astype(str(dtype)[6:])), own=config)

    assert net.results_[0].diverged
    assert model.flat.isfinite().all()


def test_a_learning_rate_that_is_far_too_large_cannot_hurt_where_rows_validate(bent, make_model):
    """The start is still the best."""
    model = make_model(bent)
    start = model.flat.clone()
    run(model, *halves(bent), replace(PLAN, learning_rate=1e6))

    assert torch.equal(model.flat, start)


def test_an_extreme_row_is_no_divergence(bent, make_model):
    """Its loss exceeds every limit, but a clipped step leaves the weights as good as before."""
    x = np.repeat(bent, 20, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(2400, 2))
    model, extreme = make_model(x), np.append(x, [[1e5, 1e5]], axis=0)
    net = run(model, to_table(extreme))

    assert max(row["loss"] for row in net.results_[0].history) > 1e4
    assert not net.results_[0].diverged
    train = to_table(x)
    assert net.validate(train)[0] < run(make_model(x), train, own=NO_STEPS).validate(train)[0]


def test_a_start_that_is_not_finite_is_an_error(bent, make_model):
    """There are no good weights to go back to."""
    model = make_model(bent)
    model.flat[0, 0] = float("nan")

    with pytest.raises(FloatingPointError, match="started from are not finite"):
        run(model, to_table(bent))


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


def test_callbacks_are_told_of_every_iteration(bent, make_model):
    """In skorch's order."""
    events = Events()
    run(make_model(bent), to_table(bent), callbacks=[events])
    iterations = ["begin", "end"] * PLAN.max_iter

    assert events.seen == ["train begins", *iterations, "train ends"]


def test_a_callback_can_stop_the_training(bent, make_model):
    """As skorch's own do: the best weights so far are kept, and no error reaches the user."""
    events = Events(stop_after=2)
    model = make_model(bent)
    start = model.flat.clone()
    wild = replace(PLAN, learning_rate=10.0)  # both iterations are worse than the start
    net = run(model, *halves(bent), wild, callbacks=[events])

    assert len(net.history) == 2
    assert events.seen[-1] == "train ends"
    assert torch.equal(model.flat, start)


def test_a_callbacks_own_error_reaches_the_user(bent, make_model):
    """Only the wish to stop is caught."""
    events = Events(stop_after=2, error=ZeroDivisionError)

    with pytest.raises(ZeroDivisionError):
        run(make_model(bent), to_table(bent), callbacks=[events])
    assert events.seen[-1] == "train ends"


def test_skorchs_early_stopping_stops(bent, make_model):
    """It reads the history by name."""
    stopping = EarlyStopping(monitor="val_loss", patience=2, sink=lambda text: None)
    patient = replace(PLAN, max_iter=100, patience=50, learning_rate=1e-12)
    net = run(make_model(bent), *halves(bent), patient, callbacks=[stopping])

    assert len(net.history) <= 4


def test_skorchs_epoch_timer_times(bent, make_model):
    """Each record says how long its iteration took."""
    net = run(make_model(bent), to_table(bent), callbacks=[EpochTimer()])

    assert all(row["dur"] > 0 for row in net.history)


def test_skorchs_scheduler_schedules(bent, make_model):
    """torch's schedulers accept our Adam, and its steps follow them."""
    halving = LRScheduler(policy="StepLR", step_size=1, gamma=0.5)
    flat = replace(PLAN, n_iter_per_stage=(1, 0, 0))
    both = replace(PLAN, n_iter_per_stage=(2, 0, 0))
    first = run(make_model(bent), to_table(bent), own=flat).module_.flat
    plain = run(make_model(bent), to_table(bent), own=both).module_.flat
    net = run(make_model(bent), to_table(bent), own=both, callbacks=[halving])
    moved = net.module_.flat

    assert net.history[:, "event_lr"] == [0.01, 0.005]
    # Adam's second iteration is about half as long in the same direction
    ratio = (moved - first).norm() / (plain - first).norm()
    assert ratio.item() == pytest.approx(0.5, abs=0.1)


def test_a_line_is_printed_per_iteration_if_asked_for(bent, make_model, capsys):
    """verbose=1, and silence otherwise."""
    run(make_model(bent), to_table(bent))
    silent = capsys.readouterr().out
    run(make_model(bent), to_table(bent), verbose=1)
    lines = capsys.readouterr().out.splitlines()

    assert silent == ""
    title, header, *_ = lines
    assert title == "Training on 120 rows:"
    assert "reconstruction_loss" in header
    assert len(lines) == 3 + PLAN.max_iter


@pytest.mark.gpu
def test_training_on_the_gpu_ends_near_that_on_the_cpu(bent, make_model):
    """The same numbers are drawn; only the order of sums differs."""
    tables = [to_table(bent), replace(to_table(bent), x=torch.as_tensor(bent).cuda())]
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
    vae = VAETransformer(
        1, max_iter=3, early_stopping=True, refit=False, tol=0.0, random_state=0
    ).fit(X)
    log_prob, kl = vae._fitted().elbo_terms(X[asides[0]], 4096)
    best = min(record["val_loss"] for record in vae.history_)

    assert vae.columns_.likelihoods == [LogNormal(), LogNormal()]
    assert best == pytest.approx(np.mean(kl - log_prob), abs=0.05)


def test_parts_of_a_table_have_the_offsets_of_their_rows(rng):
    """Weighted means, which numpy takes."""
    offset, weight = rng.normal(size=20), rng.random(20)
    table = Dataset.from_x(torch.zeros(20, 1), torch.as_tensor(weight), 20.0, offset)
    for part in (table, *table.split(5, make_generator(0, Stream.SPLIT))):
        own = part.indices().numpy()

        assert part.loss_offset[0] == pytest.approx(np.average(offset[own], weights=weight[own]))
