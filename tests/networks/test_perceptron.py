"""Stacked layers against loops over torch's own, memory against torch.nn.GRU."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from marl.errors import UserError
from marl.networks.base import Network
from marl.networks.encoders import Convolutions, Flat, describe_input
from marl.networks.layers import GRU, FastTanh, StackedLayerNorm, Tanh, linear
from marl.networks.perceptron import Perceptron
from marl.types import AgentGroup, Discrete, TensorSpec

AGENTS = 3
VECTOR, IMAGE = TensorSpec((5,)), TensorSpec((12, 12, 3), torch.uint8)
SMALL: dict[str, Any] = {"channels": [4, 6], "kernels": [4, 3], "strides": [2, 1]}


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def scrambled(module: nn.Module) -> nn.Module:
    """With no parameter left at an initial 0 or 1, which would hide mistakes."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def build(model: Perceptron, spec: TensorSpec = VECTOR, outputs: int = 2) -> Network:
    torch.manual_seed(0)
    return scrambled(model.build(spec, outputs, AGENTS))  # type: ignore[return-value]  # as built


# -------------------------------------------------------------------------------- weights per agent


def test_stacked_linear_equals_a_loop() -> None:
    stacked, x = scrambled(linear(5, 4, AGENTS, 1.0)), randn(7, 2, AGENTS, 5)
    out = stacked(x)
    for i in range(AGENTS):
        weight, bias = stacked.weight[i].T, stacked.bias[i]  # type: ignore[index, union-attr]
        torch.testing.assert_close(out[..., i, :], nn.functional.linear(x[..., i, :], weight, bias))


def test_stacked_layer_norm_equals_a_loop() -> None:
    stacked, x = StackedLayerNorm(6, AGENTS), randn(7, AGENTS, 6)
    scrambled(stacked)
    for i in range(AGENTS):
        expected = nn.functional.layer_norm(x[:, i], (6,), stacked.weight[i], stacked.bias[i])
        torch.testing.assert_close(stacked(x)[:, i], expected)


def one_agent(network: Network, model: Perceptron, spec: TensorSpec, i: int) -> Network:
    """A network of its own with agent i's share of the stacked weights."""
    alone = dataclasses.replace(model, sharing="shared").build(spec, 2, 1)
    own = {}
    for name, weight in network.state_dict().items():
        target = alone.state_dict()[name]
        if weight.dim() == 3:  # linear [N, in, out]
            own[name] = weight[i].T
        elif weight.dim() == 4:  # grouped convolution [N * out, in, k, k]
            own[name] = weight.chunk(AGENTS)[i]
        else:
            own[name] = weight[i] if weight.dim() == 2 else weight.chunk(AGENTS)[i]
        assert own[name].shape == target.shape, name
    alone.load_state_dict(own)
    return alone


@pytest.mark.parametrize("spec", [VECTOR, IMAGE], ids=["vector", "image"])
@pytest.mark.parametrize("gru", [0, 8])
def test_per_agent_equals_separate_networks(spec: TensorSpec, gru: int) -> None:
    model = Perceptron([6], gru=gru, sharing="per_agent", layer_norm=True, input_norm=True, **SMALL)
    network = build(model, spec)
    x = (128 + 60 * randn(4, 2, AGENTS, *spec.shape)).clamp(0, 255).to(spec.dtype)
    carry, start = randn(2, AGENTS, gru) if gru else None, torch.zeros(4, 2, dtype=torch.bool)
    start[2, 0] = True
    out, after = network(x, carry, start)
    for i in range(AGENTS):
        alone, mine = one_agent(network, model, spec, i), slice(i, i + 1)
        own, own_after = alone(x[:, :, mine], None if carry is None else carry[:, mine], start)
        torch.testing.assert_close(out[:, :, mine], own, atol=1e-5, rtol=1e-4)
        if after is not None and own_after is not None:
            torch.testing.assert_close(after[:, mine], own_after, atol=1e-5, rtol=1e-4)


def test_sharing() -> None:
    """Equal observations: shared weights answer alike, an id or weights of one's own do not."""
    x = randn(4, 1, 5).expand(4, AGENTS, 5)
    for model, alike in (
        (Perceptron(), True),
        (Perceptron(agent_id=True), False),
        (Perceptron(sharing="per_agent"), False),
    ):
        out, _ = build(model)(x)
        assert torch.allclose(out[:, 0], out[:, 1], atol=1e-6) is alike


def test_agent_id_is_a_one_hot_beside_the_observation() -> None:
    network = build(Perceptron([6], agent_id=True))
    plain = Perceptron([6]).build(TensorSpec((5 + AGENTS,)), 2, AGENTS)
    plain.load_state_dict(network.state_dict())
    x = randn(4, AGENTS, 5)
    ids = torch.eye(AGENTS).expand(4, AGENTS, AGENTS)
    torch.testing.assert_close(network(x)[0], plain(torch.cat([x, ids], -1))[0])


# ------------------------------------------------------------------------------------------- memory


def twin(ours: GRU, inputs: int, units: int) -> nn.GRU:
    """torch's GRU (reset, update, new) with our weights."""
    theirs = nn.GRU(inputs, units)
    names = {"weight_ih_l0": ours.of_input.weight, "weight_hh_l0": ours.of_carry.weight}
    names |= {"bias_ih_l0": ours.of_input.bias, "bias_hh_l0": ours.of_carry.bias}
    theirs.load_state_dict(names)  # type: ignore[arg-type]  # tensors of Linear layers
    return theirs


def test_gru_equals_torch() -> None:
    ours = GRU(5, 4, None)
    scrambled(ours)
    x, carry = randn(6, 2, AGENTS, 5), randn(2, AGENTS, 4)
    out, after = ours(x, carry, torch.zeros(6, 2, dtype=torch.bool))
    raw, _ = twin(ours, 5, 4)(x.flatten(1, 2), carry.reshape(1, -1, 4))
    torch.testing.assert_close(out, ours.norm(raw.reshape(6, 2, AGENTS, 4)))
    torch.testing.assert_close(after, raw.reshape(6, 2, AGENTS, 4))


def test_a_start_forgets_all_before_in_its_copy_only() -> None:
    ours = GRU(5, 4, None)
    x, carry = randn(6, 2, AGENTS, 5), randn(2, AGENTS, 4)
    start = torch.zeros(6, 2, dtype=torch.bool)
    start[3, 0] = True
    out, _ = ours(x, carry, start)
    fresh, _ = ours(x[3:], torch.zeros(2, AGENTS, 4), start[3:])
    through, _ = ours(x, carry, torch.zeros_like(start))
    torch.testing.assert_close(out[3:, 0], fresh[:, 0])
    torch.testing.assert_close(out[:, 1], through[:, 1])
    assert not torch.allclose(out[3:, 0], through[3:, 0])


def test_memory_is_asked_for() -> None:
    network = build(Perceptron(gru=4))
    assert network.carry_size == 4 and build(Perceptron()).carry_size == 0
    with pytest.raises(AssertionError, match="carry and start"):
        network(randn(1, 2, AGENTS, 5))


# ------------------------------------------------------------------------------------------- images


def test_convolutions_equal_torch() -> None:
    encoder = Convolutions(Perceptron(**SMALL), IMAGE, AGENTS)
    x = torch.randint(0, 256, (2, 4, AGENTS, 12, 12, 3), dtype=torch.uint8)
    out = encoder(x)
    assert out.shape == (2, 4, AGENTS, encoder.features)
    image = x[1, 2, 0].permute(2, 0, 1).unsqueeze(0).float() / 255
    layers = nn.Sequential(nn.Conv2d(3, 4, 4, 2), nn.ReLU(), nn.Conv2d(4, 6, 3, 1), nn.ReLU())
    names = {f"{2 * i}.{k}": v for i in (0, 1) for k, v in encoder.layers[i].state_dict().items()}
    layers.load_state_dict(names)
    torch.testing.assert_close(out[1, 2, 0], layers(image).flatten())


def test_too_small_images_are_flattened_or_refused() -> None:
    with pytest.raises(UserError, match=r"12x12 pixels are too small.*kernels=\[8, 4, 3\]"):
        Perceptron(images="convolve").build(IMAGE, 2, AGENTS)
    x = torch.randint(0, 256, (2, AGENTS, 12, 12, 3), dtype=torch.uint8)
    torch.manual_seed(0)
    numbers = Perceptron().build(TensorSpec((IMAGE.size,)), 2, AGENTS)
    torch.manual_seed(0)
    network = Perceptron().build(IMAGE, 2, AGENTS)
    torch.testing.assert_close(network(x)[0], numbers(x.flatten(-3) / 255)[0])


@pytest.mark.parametrize("images", ["convolve", "flatten"])
@pytest.mark.parametrize("sharing", ["shared", "per_agent"])
@pytest.mark.parametrize(
    ("low", "high"), [((0.0,) * 3, (1.0,) * 3), ((-1.0, 0.0, 2.0), (1.0, 9.0, 4.0))]
)
def test_images_are_scaled_by_their_bounds(low: Any, high: Any, sharing: str, images: str) -> None:
    """The same image in bytes and in floats of any unit gives the same."""
    model = Perceptron([6], sharing=sharing, images=images, **SMALL)
    floats = TensorSpec(IMAGE.shape, torch.float32, low, high)
    one, other = build(model, IMAGE), build(model, floats)
    image = torch.randint(0, 256, (2, AGENTS, 12, 12, 3), dtype=torch.uint8)
    bounds = torch.tensor(low), torch.tensor(high)
    x = bounds[0] + image / 255 * (bounds[1] - bounds[0])
    torch.testing.assert_close(one(image)[0], other(x)[0], atol=1e-5, rtol=1e-5)


def test_what_has_no_bounds_is_read_as_it_is() -> None:
    infinite = TensorSpec(IMAGE.shape, torch.float32, (-math.inf,) * 3, (math.inf,) * 3)
    constant = TensorSpec(IMAGE.shape, torch.float32, (0.0,) * 3, (0.0, 1.0, 1.0))
    x = 9 * torch.randn(2, *IMAGE.shape)
    for spec in (infinite, constant):
        assert torch.equal(Flat(spec)(x), x.flatten(1))


@pytest.mark.parametrize(
    ("spec", "model", "words"),
    [
        (TensorSpec((40, 40, 3), torch.uint8), Perceptron(),
         "eyes: images of 40x40x3, read from 0..255, through 3 convolutions"),
        (TensorSpec((7, 7, 3), torch.float32, (0.0,) * 3, (5.0,) * 3), Perceptron(),
         "read from 0..5, flattened to 147 numbers .* too small"),
        (TensorSpec((40, 40, 3), torch.uint8), Perceptron(images="flatten"),
         "flattened to 4,800 numbers .*; model=cnn"),
        (TensorSpec((84, 84)), Perceptron(), "84x84 numbers, flattened to 7,056 .* model=cnn"),
        (TensorSpec((40, 40, 1), torch.float32, (-math.inf,), (math.inf,)), Perceptron(),
         "without bounds, through"),
        (TensorSpec((3000,)), Perceptron(), None),
        (TensorSpec((3, 4)), Perceptron(), None),
    ],
)  # fmt: skip
def test_how_images_are_read_is_said(spec: TensorSpec, model: Perceptron, words: str) -> None:
    said = describe_input(AgentGroup("eyes", ("a",), spec, Discrete(2)), model)
    assert (said is None) if words is None else re.search(words, said or "")


# ------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"activation": "rleu"}, "unknown activation 'rleu'; did you mean 'relu'"),
        ({"sharing": "per_agnet"}, "did you mean 'per_agent'"),
        ({"hidden": [0]}, "must hold positive numbers"),
        ({"gru": -1}, "must be at least 0"),
        ({"strides": [1]}, "must have the same length"),
    ],
)
def test_bad_options_are_told(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Perceptron(**options)


def test_initial_weights_are_orthogonal_with_the_gain() -> None:
    head = linear(8, 3, AGENTS, 0.01)
    for weight in head.weight:  # type: ignore[union-attr]  # a Parameter
        torch.testing.assert_close(weight.T @ weight, 1e-4 * torch.eye(3), atol=1e-7, rtol=0)
    assert not head.bias.any()  # type: ignore[union-attr, operator]


def test_the_fast_tanh_is_tanh() -> None:
    x = torch.linspace(-30, 30, 6001, requires_grad=True)
    fast, slow = FastTanh.apply(x), x.tanh()
    assert isinstance(fast, torch.Tensor) and torch.allclose(fast, slow, rtol=0, atol=3e-7)
    with torch.no_grad():
        assert torch.equal(Tanh()(x), fast)  # to the bit: what acted is what is evaluated
    (one,), (other,) = (torch.autograd.grad(y.sum(), x) for y in (fast, slow))
    assert torch.allclose(one, other, rtol=0, atol=1e-6)
