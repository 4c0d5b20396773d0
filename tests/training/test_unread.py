"""Settings that nothing reads: which ones, what is said of them, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest

from marl.algorithms.hasac import HASACConfig
from marl.algorithms.iql import IQLConfig
from marl.algorithms.mappo import MAPPOConfig
from marl.algorithms.qmix import QMIXConfig
from marl.algorithms.vdn import VDNConfig
from marl.errors import UserError
from marl.networks.perceptron import Perceptron
from marl.training import unread
from marl.training.teams import Team, resolve_teams
from tests.helpers.off_policy import Play
from tests.helpers.toy_envs import continuous, identity, rivals

MLP, GRU = Perceptron([8]), Perceptron([8], gru=4)
BURN_IN, LENGTH = "algorithm.burn_in", "algorithm.sequence_length"
CARRIES, BINS, CRITIC = "algorithm.stored_carries", "algorithm.bins", "critic_model"


@pytest.mark.parametrize(
    ("config", "model", "make", "names"),
    [
        (QMIXConfig(), MLP, identity, {BURN_IN, LENGTH, CARRIES, BINS}),
        (QMIXConfig(td_lambda=0.5), MLP, continuous, {BURN_IN, CARRIES}),
        (QMIXConfig(), GRU, identity, {BINS}),
        (VDNConfig(), GRU, continuous, {CRITIC}),
        (IQLConfig(), MLP, identity, {BURN_IN, LENGTH, CARRIES, BINS, CRITIC}),
        (HASACConfig(), MLP, identity, {BURN_IN, LENGTH}),
        (HASACConfig(), GRU, identity, set()),
    ],
)
def test_what_nothing_reads(config: Any, model: Any, make: Any, names: set[str]) -> None:
    play = Play(make, config, model, frames=4000)
    assert set(unread.unread_settings(play.first)) == names
    (name,) = play.teams
    for key in (BURN_IN, LENGTH, CARRIES, BINS, CRITIC, "algorithm.gamma"):
        if key in names:
            for word in (key, f"teams.{name}.{key}"):
                with pytest.raises(UserError, match=f"^nothing reads {word}: .* leave it out"):
                    unread.check(play.teams, ["task", word])
        else:
            unread.check(play.teams, [key, f"teams.{name}.{key}"])


def test_only_changed_settings_are_warned_of_with_the_reason() -> None:
    def lines(config: Any, model: Any = MLP, critic: Any = None) -> list[str]:
        play = Play(identity, config, model, frames=4000)
        specs = resolve_teams(play.env, {}, Team(None, config, model, critic))
        return unread.warnings(specs, play.teams)

    assert not lines(IQLConfig()) and not lines(IQLConfig(burn_in=3), GRU)
    (line,) = lines(QMIXConfig(burn_in=3, sequence_length=5), critic=GRU)
    assert line.startswith("team 'team': nothing reads algorithm.")
    assert "algorithm.burn_in=3" in line and "algorithm.sequence_length=5" in line
    assert "the networks have no memory; set model.gru=64" in line
    bins, critic = lines(VDNConfig(bins=7), GRU, MLP)
    assert "algorithm.bins=7: no agent has continuous" in bins and "critic_model: " in critic


def test_one_team_that_reads_a_setting_is_enough() -> None:
    teams = {"right": Team(algorithm=MAPPOConfig())}
    play = Play(rivals, VDNConfig(), teams=teams, frames=4000)
    unread.check(play.teams, [CRITIC, "teams.right.critic_model"])
    with pytest.raises(UserError, match=r"nothing reads teams\.left.critic_model"):
        unread.check(play.teams, ["teams.left.critic_model"])
