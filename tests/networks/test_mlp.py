"""Networks: a member axis, a linear path beside the layers, draws that are prefixes."""

import math

import pytest
import torch
from torch import nn

from sklearn_vae.networks.mlp import MLP, Dense
from sklearn_vae.networks.per_member import PerMember


def random_mlp(n_members, hidden_layer_sizes, n_in=3, n_out=2):
    """An MLP whose every weight is random."""
    network = MLP(n_members, n_in, n_out, hidden_layer_sizes).double()
    generator = torch.Generator().manual_seed(0)
    for param in network.parameters():
        param.data = torch.randn(param.shape, generator=generator, dtype=torch.float64)
    return network


def torch_linear(weight, bias):
    """torch's own layer from a (n_in, n_out) matrix."""
    layer = nn.Linear(*weight.shape, bias=bias is not None).double()
    layer.weight.data = weight.T.detach()
    if bias is not None:
        layer.bias.data = bias[0].detach()
    return layer


def by_torch(network, member, x):
    """The same function from torch.nn's layers."""
    linear = torch_linear(network.linear.weight[member], network.linear.bias[member])
    if network.last is None:
        return linear(x)
    layers = []
    for layer in network.hidden:
        layers += [torch_linear(layer.weight[member], layer.bias[member])]
        layers += [nn.SiLU()]
    stack = nn.Sequential(*layers, torch_linear(network.last[member], None))
    return linear(x) + stack(x)


@pytest.mark.parametrize("hidden_layer_sizes", [(), (4,), (5, 4)])
def test_members_equal_separate_networks(hidden_layer_sizes):
    """A fleet is worth nothing if its members are not the models they stand for."""
    network = random_mlp(3, hidden_layer_sizes)
    x = torch.randn(3, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([by_torch(network, m, x[m]) for m in range(3)])

    torch.testing.assert_close(network(x), expected)


def test_drawn_weights_are_uniform_with_the_variance_of_one_over_n_in():
    """Signals then neither grow nor fade with the width of a layer."""
    layer = Dense(1, 50, 400)
    layer.reset_parameters(0, torch.Generator().manual_seed(0))
    weight, bias = layer.weight.detach(), layer.bias.detach()

    assert weight.var().item() == pytest.approx(1 / 50, rel=0.02)
    assert abs(weight.mean().item()) < 3 / math.sqrt(50 * 50 * 400)
    assert weight.abs().max().item() == pytest.approx(math.sqrt(3 / 50), rel=1e-3)
    assert bias.abs().max().item() == pytest.approx(1 / math.sqrt(50), rel=0.02)
    assert bias.var().item() == pytest.approx(1 / 150, rel=0.2)


def test_a_narrower_input_draws_a_prefix_of_the_same_numbers():
    """In a grid of latent sizes, the smaller model starts as part of the larger one."""
    narrow, wide = Dense(1, 2, 5), Dense(1, 8, 5)
    for layer in (narrow, wide):
        layer.reset_parameters(0, torch.Generator().manual_seed(0))
    # both in units of their standard deviation, 1 / sqrt(n_in)
    expected = wide.weight[0, :2] * math.sqrt(8)

    torch.testing.assert_close(narrow.weight[0] * math.sqrt(2), expected)
    torch.testing.assert_close(narrow.bias * math.sqrt(2), wide.bias * math.sqrt(8))


def small_module():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


@pytest.mark.parametrize("gated", [False, True])
def test_each_member_has_an_ordinary_module_of_its_own(gated):
    """What torch's modules say of one model has to hold for each of a fleet."""
    network = PerMember(2, (3, 2), small_module, gated=gated).double()
    for member in range(2):
        network.reset_parameters(member, seed=member, side=0)
    for param in [network.linear.weight, network.linear.bias, network.gate]:
        if param is not None:
            param.data.uniform_(generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = []
    for member in range(2):
        own = small_module().double()
        weights = network.weights.items()
        own.load_state_dict({name.replace("/", "."): value[member] for name, value in weights})
        gate = 10 * network.gate[member, 0, 0] if gated else 1
        linear = x[member] @ network.linear.weight[member] + network.linear.bias[member]
        expected.append(linear + gate * own(x[member]))

    torch.testing.assert_close(network(x), torch.stack(expected))
