"""Distributions against torch.distributions, numerical integrals and sampling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributions as td

from marl.algorithms.hasac import entropy_target
from marl.env import uniform_action, uniform_noise
from marl.policies.deterministic import deterministic
from marl.policies.distributions import Categorical, MultiCategorical, TanhGaussian, distribution
from marl.types import ActionSpec, Continuous, Discrete, MultiDiscrete

LOW, HIGH = (-1.0, -2.0), (1.0, 3.0)
SPEC = Continuous(LOW, HIGH)
BOX = TanhGaussian(SPEC)
MASK = torch.tensor([[True, False, True, True], [False, True, False, False]])


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator())


def reference(params: Tensor) -> td.Distribution:
    """The squashed Gaussian in [-1, 1], built from torch's own transforms in double precision."""
    mean, raw = params.double().chunk(2, dim=-1)
    std = torch.log1p(torch.expm1(torch.ones(1, dtype=torch.float64)) * raw.exp()) + 1e-4
    squashed = td.TransformedDistribution(td.Normal(mean, std), [td.TanhTransform()])
    return td.Independent(squashed, 1)


# ------------------------------------------------------------------------------------ log-densities


@pytest.mark.parametrize("mask", [None, MASK])
def test_categorical_equals_torch(mask: Tensor | None) -> None:
    logits = randn(50, 2, 4)
    action, log_prob, aux = Categorical(4).sample(logits, mask, Categorical(4).noise(
        (50, 2), generator()
    ))  # fmt: skip
    allowed = logits if mask is None else logits.masked_fill(~mask, -torch.inf)
    expected = td.Categorical(logits=allowed)
    torch.testing.assert_close(log_prob, expected.log_prob(action))
    again, entropy = Categorical(4).evaluate(logits, mask, action, aux)
    torch.testing.assert_close(again, log_prob)
    probs = expected.probs
    torch.testing.assert_close(entropy, -torch.special.xlogy(probs, probs).sum(-1))


def test_multi_categorical_is_a_product() -> None:
    dist, logits = MultiCategorical((2, 3)), randn(20, 2, 5)
    mask = torch.tensor([True, True, False, True, True]).expand(20, 2, 5)
    action, log_prob, _ = dist.sample(logits, mask, dist.noise((20, 2), generator()))
    allowed = logits.masked_fill(~mask, -torch.inf)
    first, second = td.Categorical(logits=allowed[..., :2]), td.Categorical(logits=allowed[..., 3:])
    assert (action[..., 1] > 0).all()
    joint = first.log_prob(action[..., 0]) + second.log_prob(action[..., 1] - 1)
    torch.testing.assert_close(log_prob, joint)
    torch.testing.assert_close(
        dist.evaluate(logits, mask, action, {})[1], first.entropy() + second.entropy()
    )


def test_tanh_gaussian_equals_torch() -> None:
    params = randn(100, 2, 4)
    action, log_prob, aux = BOX.sample(params, None, BOX.noise((100, 2), generator()))
    encoded, again = BOX.rsample(params, None, BOX.noise((100, 2), generator()))
    torch.testing.assert_close(encoded, SPEC.encode(action))
    assert torch.equal(again, log_prob)
    expected = reference(params).log_prob(encoded.double()).float()
    torch.testing.assert_close(log_prob, expected, atol=1e-3, rtol=2e-3)
    torch.testing.assert_close(BOX.evaluate(params, None, action, aux)[0], log_prob)


@pytest.mark.parametrize("params", [(0.0, 0.0), (1.5, -1.0), (-0.3, 0.7)])
def test_tanh_gaussian_integrates_to_one(params: tuple[float, float]) -> None:
    """Over the actions in [-1, 1], so that squashing counts and the bounds do not."""
    dist = TanhGaussian(Continuous((-2.0,), (3.0,)))
    action = torch.linspace(-1, 1, 200_003, dtype=torch.float64)[1:-1]
    raw = torch.atanh(action).unsqueeze(-1)
    given = torch.tensor(params, dtype=torch.float64).expand(len(raw), 2)
    log_prob, _ = dist.evaluate(given, None, action.unsqueeze(-1), {"raw": raw})
    assert float(torch.trapezoid(log_prob.exp(), action)) == pytest.approx(1.0, abs=1e-3)


# ------------------------------------------------------------------------------ samples and entropy


def test_categorical_frequencies() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    draws, dist = 100_000, Categorical(4)
    mask = torch.tensor([True, True, True, False])
    action, *_ = dist.sample(logits.expand(draws, 4), mask, dist.noise((draws,), generator()))
    frequency = action.bincount(minlength=4) / draws
    expected = torch.cat([logits[:3].softmax(-1), torch.zeros(1)])
    torch.testing.assert_close(frequency, expected, atol=6e-3, rtol=0)
    assert frequency[3] == 0


def test_masked_actions_are_never_drawn_however_tempting() -> None:
    logits = torch.tensor([80.0, 0.0, 90.0, 0.0]).expand(10_000, 4)
    mask = torch.tensor([False, True, False, True])
    dist = Categorical(4)
    for noise in (dist.noise((10_000,), generator()), None):
        action, *_ = dist.sample(logits, mask, noise)
        assert set(action.tolist()) <= {1, 3}


def test_tanh_gaussian_samples_follow_the_density() -> None:
    params = torch.tensor([0.4, -0.2, -0.5, 0.3]).expand(200_000, 4)
    action, log_prob, _ = BOX.sample(params, None, BOX.noise((200_000,), generator()))
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    assert ((action >= low) & (action <= high)).all()
    torch.manual_seed(3)
    other = SPEC.decode(reference(params[:1]).sample((200_000,)).squeeze(1).float())
    torch.testing.assert_close(action.mean(0), other.mean(0), atol=0.01, rtol=0)
    torch.testing.assert_close(action.std(0), other.std(0), atol=0.01, rtol=0)
    # Importance weights against the uniform density average to the volume of [-1, 1]^2.
    assert float((-log_prob).exp().mean()) == pytest.approx(2.0 * 2.0, rel=0.1)


@pytest.mark.parametrize("raw", [-2.0, 0.0, 1.0])
def test_tanh_gaussian_entropy_against_monte_carlo(raw: float) -> None:
    """The quadrature of 5 nodes: within 0.02 nats per dimension up to a deviation of 1.7."""
    params = torch.tensor([0.5, -1.0, raw, raw]).expand(200_000, 4)
    _, log_prob, aux = BOX.sample(params, None, BOX.noise((200_000,), generator()))
    _, entropy = BOX.evaluate(params[:1], None, torch.zeros(1, 2), {"raw": aux["raw"][:1]})
    assert float(entropy) == pytest.approx(-float(log_prob.mean()), abs=0.04)


@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_entropy_gradient_is_that_of_the_integral(mean: float) -> None:
    """d/d(mean, std) of the entropy, by a fine quadrature over the Gaussian."""
    dist = TanhGaussian(Continuous((-1.0,), (1.0,)))
    params = torch.tensor([mean, -0.5], dtype=torch.float64, requires_grad=True)
    raw = torch.zeros(1, dtype=torch.float64)
    (got,) = torch.autograd.grad(dist.evaluate(params, None, raw, {"raw": raw})[1], params)
    z = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    weight = td.Normal(0.0, 1.0).log_prob(z).exp() * (z[1] - z[0])
    std = torch.nn.functional.softplus(params[1] + torch.log(torch.expm1(torch.ones(())))) + 1e-4
    slope = (weight * (1 - (params[0] + std * z).tanh().square()).clamp_min(1e-30).log()).sum()
    (expected,) = torch.autograd.grad(std.log() + slope, params)
    torch.testing.assert_close(got, expected, atol=0.02, rtol=0.02)


# ------------------------------------------------------------------------------- modes and extremes


def test_modes() -> None:
    logits = torch.tensor([[1.0, 5.0, 2.0, 0.0, 3.0]])
    assert Categorical(5).sample(logits, None, None)[0].tolist() == [1]
    assert MultiCategorical((2, 3)).sample(logits, None, None)[0].tolist() == [[1, 2]]
    params = torch.tensor([[0.5, -0.5, 9.0, 9.0]])
    expected = torch.tensor([[0.5, -0.5]]).tanh() * torch.tensor([1.0, 2.5]) + torch.tensor(
        [0.0, 0.5]
    )
    torch.testing.assert_close(BOX.sample(params, None, None)[0], expected)


@pytest.mark.parametrize("size", [-1e4, -50.0, 50.0, 1e4])
def test_extreme_numbers_give_no_nan(size: float) -> None:
    for dist, count, mask in (
        (Categorical(4), 4, MASK),
        (MultiCategorical((2, 2)), 4, MASK),
        (BOX, 4, None),
    ):
        signs = torch.tensor([1.0, -1.0, 1.0, 0.5])[:count]
        params = (size * signs).expand(2, count).clone().requires_grad_()
        action, _, aux = dist.sample(params.detach(), mask, dist.noise((2,), generator()))
        for value in dist.evaluate(params, mask, action, aux):
            (gradient,) = torch.autograd.grad(value.sum(), params, retain_graph=True)
            assert torch.isfinite(value).all() and torch.isfinite(gradient).all(), dist


def test_nothing_allowed_gives_no_nan() -> None:
    """The absent may have an empty mask: their numbers are masked later, and must be numbers."""
    logits = randn(3, 4).requires_grad_()
    nothing = torch.zeros(3, 4, dtype=torch.bool)
    log_prob, entropy = Categorical(4).evaluate(logits, nothing, torch.zeros(3).long(), {})
    (gradient,) = torch.autograd.grad((log_prob + entropy).sum(), logits)
    assert torch.isfinite(log_prob).all() and torch.isfinite(gradient).all()


# ------------------------------------------------------------------------------------------ uniform


@pytest.mark.parametrize(
    "spec", [Discrete(4), MultiDiscrete((2, 2)), Continuous(LOW, HIGH)], ids=str
)
def test_uniform_actions_are_allowed_and_even(spec: Discrete | MultiDiscrete | Continuous) -> None:
    noise = uniform_noise(spec, (60_000, 1), generator())
    mask = torch.tensor([True, True, False, True])
    action = uniform_action(spec, noise, None if isinstance(spec, Continuous) else mask)
    assert action.shape == (60_000, 1, *spec.shape) and action.dtype == spec.dtype
    encoded = spec.encode(action).mean((0, 1))
    expected = {
        Discrete: torch.tensor([1 / 3, 1 / 3, 0, 1 / 3]),
        MultiDiscrete: torch.tensor([0.5, 0.5, 0, 1]),
        Continuous: torch.tensor([0.0, 0.0]),
    }[type(spec)]
    torch.testing.assert_close(encoded, expected, atol=0.02, rtol=0)


def test_every_space_has_its_distribution() -> None:
    assert distribution(Discrete(3)) == Categorical(3)
    assert distribution(MultiDiscrete((2, 3))) == MultiCategorical((2, 3))
    assert distribution(Continuous(LOW, HIGH)) == BOX


# -------------------------------------------------------------------------------------------- units


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.1), (0.0, 0.01), (0.0, 1000.0), (5.0, 6.0)])
def test_critics_read_the_same_in_every_unit(low: float, high: float) -> None:
    """Of the same numbers and noise; and what they read is what the environment gets."""
    params, noise = randn(100, 2, 4), BOX.noise((100, 2), generator())
    spec = Continuous((low, low), (high, high))
    unit = Continuous((-1.0, -1.0), (1.0, 1.0))
    for make, given in ((distribution, params), (deterministic, params[..., :2])):
        action, log_prob, aux = make(spec).sample(given, None, noise)
        encoded, again = make(spec).rsample(given, None, noise)
        assert torch.equal(encoded, make(unit).sample(given, None, noise)[0])
        assert torch.equal(again, log_prob)
        assert torch.equal(log_prob, make(unit).sample(given, None, noise)[1])
        tolerance = 4e-7 * max(abs(low), abs(high)) / (high - low) + 1e-6
        torch.testing.assert_close(spec.encode(action), encoded, atol=tolerance, rtol=0)
    _, _, aux = BOX.sample(params, None, noise)
    found = [distribution(s).evaluate(params, None, noise, aux) for s in (spec, unit)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_bounds_that_are_the_same_leave_nothing_to_read_or_to_draw() -> None:
    spec, plain = Continuous((3.0, 0.0), (3.0, 2.0)), Continuous((0.0,), (2.0,))
    params, noise = randn(50, 1, 4).requires_grad_(), randn(50, 1, 2)
    action, log_prob, aux = distribution(spec).sample(params, None, noise)
    assert (action[..., 0] == 3).all() and not spec.encode(action)[..., 0].any()
    assert not distribution(spec).rsample(params, None, noise)[0][..., 0].any()
    assert not deterministic(spec).rsample(params[..., :2], None, noise)[0][..., 0].any()
    alone, own = params[..., [1, 3]], {"raw": aux["raw"][..., 1:]}
    found = distribution(spec).evaluate(params, None, action, aux)
    expected = distribution(plain).evaluate(alone, None, action[..., 1:], own)
    for one, other in zip((log_prob, *found), (expected[0], *expected), strict=True):
        torch.testing.assert_close(one, other)
    (gradient,) = torch.autograd.grad((found[0] + found[1] + log_prob).sum(), params)
    assert torch.isfinite(gradient).all()
    assert entropy_target(spec, 0.2) == -1


def test_what_lies_outside_the_bounds_is_read_as_on_them() -> None:
    """Scripted policies may give it, and environments clip it."""
    spec = Continuous((0.0,), (1000.0,))
    read = spec.encode(torch.tensor([[-5.0], [0.0], [750.0], [1000.0], [9e9]]))
    assert read.flatten().tolist() == [-1, -1, 0.5, 1, 1]


@pytest.mark.parametrize("make", [distribution, deterministic])
@pytest.mark.parametrize("spec", [Discrete(4), MultiDiscrete((2, 3)), SPEC])
def test_the_mode_is_the_sample_without_noise(spec: ActionSpec, make: Any) -> None:
    kind = make(spec)
    params = randn(50, 3, kind.parameters)
    allowed = torch.rand(50, 3, spec.mask_size, generator=generator()) < 0.9
    for mask in (None,) if spec is SPEC else (None, allowed):
        assert torch.equal(kind.mode(params, mask), kind.sample(params, mask, None)[0])
