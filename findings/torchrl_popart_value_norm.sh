#!/usr/bin/env bash
# TorchRL 0.14.1, MAPPOLoss(value_norm=PopArtValueNorm(...)): the critic does not predict normalised values.
#
# Guess:  as in MAPPO (Yu et al. 2022) and PopArt (van Hasselt et al. 2016) the network's output is a normalised value, read
#         back as output * sd + mean, so that returns near 1000 are learned as fast as returns near 0; and PopArt rescales
#         the last layer when mean and deviation move.
# Seen:   the class holds no layer and moves no weight. The loss normalises prediction and target alike, so that the mean
#         cancels and the gradient is the plain one divided by the variance of the targets. Adam takes such a factor out:
#         after 200 steps towards targets of 1000 +- 50 the critic gives 42 with the normaliser and 42 without.
# Output: gradient ratio 2424.4 to 2424.5, variance of the targets 2424.5
#         value after 200 steps, targets near 1000: 42.1 without, 42.1 with the normaliser
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchrl==0.14.1 tensordict==0.14.3
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

warnings.simplefilter("ignore")

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.modules import MultiAgentMLP, PopArtValueNorm, ProbabilisticActor
from torchrl.modules.distributions import NormalParamExtractor, TanhNormal
from torchrl.objectives.multiagent import MAPPOLoss

OBS, VALUE, ACTION = ("agents", "observation"), ("agents", "state_value"), ("agents", "action")
SIZES = {"n_agent_inputs": 4, "n_agents": 2, "share_params": True, "depth": 1, "num_cells": 16}


def loss_module(norm):
    torch.manual_seed(0)
    body = torch.nn.Sequential(
        MultiAgentMLP(n_agent_outputs=2, centralized=False, **SIZES), NormalParamExtractor()
    )
    keys = [("agents", "loc"), ("agents", "scale")]
    actor = ProbabilisticActor(
        TensorDictModule(body, in_keys=[OBS], out_keys=keys),
        in_keys=keys, out_keys=[ACTION], distribution_class=TanhNormal, return_log_prob=True,
    )
    critic = TensorDictModule(
        MultiAgentMLP(n_agent_outputs=1, centralized=True, **SIZES), in_keys=[OBS], out_keys=[VALUE]
    )
    loss = MAPPOLoss(actor, critic, value_norm=norm, loss_critic_type="l2")
    loss.set_keys(value=VALUE, action=ACTION)
    return actor, loss


def train(norm):
    """The first gradient of the critic, and its mean value after 200 steps of Adam."""
    actor, loss = loss_module(norm)
    torch.manual_seed(1)
    data = TensorDict({OBS: torch.randn(64, 2, 4)}, [64])
    with torch.no_grad():
        data = actor(data)
    data["advantage"] = torch.randn(64, 2, 1)
    data["value_target"] = 1000 + 50 * torch.randn(64, 2, 1)
    weights = [p for name, p in loss.named_parameters() if "critic" in name]
    adam, first = torch.optim.Adam(weights, lr=1e-2), None
    for _ in range(200):
        adam.zero_grad()
        loss(data)["loss_critic"].backward()
        if first is None:
            first = torch.cat([p.grad.flatten() for p in weights])
        adam.step()
    with torch.no_grad(), loss.critic_network_params.to_module(loss.critic_network):
        value = loss.critic_network(data.clone())[VALUE].mean().item()
    return first, value, data["value_target"].var(unbiased=False).item()


plain, without, variance = train(None)
scaled, with_norm, _ = train(PopArtValueNorm(shape=1))
ratio = plain / scaled
print(f"gradient ratio {ratio.min():.1f} to {ratio.max():.1f}, variance of the targets {variance:.1f}")
print(f"value after 200 steps, targets near 1000: {without:.1f} without, {with_norm:.1f} with the normaliser")
assert torch.allclose(ratio, torch.full_like(ratio, variance), rtol=1e-3), "no longer a plain factor"
assert abs(without - with_norm) < 1 and with_norm < 100, "the normaliser now helps to reach the targets"
assert not list(PopArtValueNorm(shape=1).parameters()), "it now holds weights"
PYTHON
