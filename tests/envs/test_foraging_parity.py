"""Foraging step by step equal to lbforaging 2.0.0, recorded and played."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from marl.envs.foraging.tasks import make
from tests.helpers.foraging import BOARDS, EPISODES, STEPS, begin, foods_of, forager, raw_env

OTHERS = [
    "foraging/10x10-3p-3f", "foraging/2s-10x10-3p-3f", "foraging/15x15-4p-5f",
    "foraging/2s-8x8-2p-2f-coop", "foraging/1s-6x6-9p-4f", "foraging/5x5-9p-2f-coop",
    "foraging/3x3-3p-1f", "foraging/4s-5x5-2p-2f",
]  # fmt: skip


@pytest.mark.parametrize("board", BOARDS)
def test_recorded_episodes_are_played_alike(board: str) -> None:
    """Observations, valid actions, rewards and ends of whole episodes."""
    with np.load(EPISODES) as file:
        told = {k.split(".")[1]: file[k] for k in file.files if k.startswith(f"{board}.")}
    name, options = BOARDS[board]
    env = make(name, len(told["players"]), max_steps=STEPS, action_mask=True, **options)
    begin(env, told["players"][..., :2], told["players"][..., 2], told["foods"])
    seen = env.observe(env.state).groups["agent"]
    for step in range(STEPS):
        going = torch.tensor(told["length"] > step)
        assert torch.equal(seen.obs[going], torch.tensor(told["obs"][:, step]).float()[going])
        valid = torch.tensor(told["valid"][:, step])
        assert seen.action_mask is not None
        assert torch.equal(seen.action_mask[going], valid[going])
        transition = env.step({"agent": torch.tensor(told["action"][:, step]).long()})
        seen = transition.next_obs.groups["agent"]
        reward = torch.tensor(told["reward"][:, step])
        torch.testing.assert_close(transition.reward["agent"][going], reward[going])
        ends, gone = torch.tensor(told["length"] == step + 1), torch.tensor(told["gone"][:, step])
        assert torch.equal(transition.done[going], ends[going])
        assert torch.equal(transition.terminated["agent"][going].all(1), (ends & gone)[going])
        assert torch.equal(transition.truncated["agent"][going].all(1), (ends & ~gone)[going])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [*BOARDS.values(), *((n, {}) for n in OTHERS)])
def test_whole_episodes_are_the_packages(name: str, options: dict[str, Any]) -> None:
    pytest.importorskip("lbforaging", reason="pip install lbforaging==2.0.0, to compare with it")
    copies, shared, loads = 12, 0, 0
    env = make(name, copies, action_mask=True, **options)
    raws = [raw_env(name, options) for _ in range(copies)]
    random = np.random.default_rng(0)
    for episode in range(4):
        observed = [start(raw, 100 * episode + copy) for copy, raw in enumerate(raws)]
        begin(
            env,
            [[player.position for player in raw.players] for raw in raws],
            [[player.level for player in raw.players] for raw in raws],
            [foods_of(raw.field) for raw in raws],
        )
        seen, playing = env.observe(env.state).groups["agent"], set(range(copies))
        while playing:
            for copy in playing:
                same_view(seen, copy, observed[copy], raws[copy])
            action = np.zeros((copies, env.board.players), np.int64)
            for copy in playing:
                action[copy] = forager(raws[copy], random)
            transition = env.step({"agent": torch.tensor(action)})
            seen = transition.next_obs.groups["agent"]
            for copy in list(playing):
                raw = raws[copy]
                observed[copy], reward, done, _, _ = raw.step(tuple(action[copy].tolist()))
                ours = transition.reward["agent"][copy].numpy()
                np.testing.assert_allclose(ours, reward, rtol=1e-6, atol=1e-7)
                assert transition.done[copy].item() == done
                assert transition.terminated["agent"][copy].all() == (not raw.field.any())
                places = [player.position for player in raw.players]
                shared, loads = shared + (len(set(places)) < len(places)), loads + (max(reward) > 0)
                if done:
                    same_view(seen, copy, observed[copy], raw)
                    playing.discard(copy)
    assert loads > 10 and (shared or env.board.players < 4), "too little happened"


def start(raw: Any, seed: int) -> Any:
    for player in raw.players:
        player.position = None  # else the package keeps them from the cells where they ended
    return raw.reset(seed=seed)[0]


def same_view(seen: Any, copy: int, observed: Any, raw: Any) -> None:
    np.testing.assert_array_equal(seen.obs[copy].numpy(), np.stack(observed))
    valid = [[action.value for action in raw._valid_actions[player]] for player in raw.players]
    assert [mask.nonzero().flatten().tolist() for mask in seen.action_mask[copy]] == valid


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("foraging/6x6-3p-3f", {}),
        ("foraging/5x5-2p-2f-coop", {"max_player_level": 3}),  # where food may have no room
        ("foraging/7x7-3p-2f", {"max_player_level": [1, 2, 4], "max_food_level": [2, 5]}),
    ],
)
def test_episodes_begin_as_often_everywhere_as_the_packages(
    name: str, options: dict[str, Any]
) -> None:
    """Frequencies of places and levels, within 4.5 standard errors of the package's."""
    pytest.importorskip("lbforaging", reason="pip install lbforaging==2.0.0, to compare with it")
    episodes = 2000
    env = make(name, 20_000, **options)
    env.reset(0)
    ours, state, cells = [], env.state, env.board.rows * env.board.columns
    for place, level in ((state.player, state.level), (state.food, state.food_level)):
        ours.append(counts(place[0] * env.board.columns + place[1], level, cells))
    raw, places = raw_env(name, options), ([], [])
    for seed in range(episodes):
        start(raw, seed)
        places[0].append([[*player.position, player.level] for player in raw.players])
        foods = foods_of(raw.field)
        places[1].append(foods + [[0, 0, 0]] * (env.board.foods - len(foods)))
    for mine, other in zip(ours, places, strict=True):
        row, column, level = torch.tensor(other).permute(2, 1, 0)
        theirs = counts(row * env.board.columns + column, level, cells)
        share = (mine * 20_000 + theirs * episodes) / (20_000 + episodes)
        error = (share * (1 - share) * (1 / 20_000 + 1 / episodes)).sqrt()
        assert ((mine - theirs).abs() <= 4.5 * error).all()


def counts(cell: torch.Tensor, level: torch.Tensor, cells: int) -> torch.Tensor:
    """Shares on each cell, and of each level (0 for foods left out), of ``[E, B]``."""
    there = level > 0
    on = torch.bincount(cell[there], minlength=cells)
    return torch.cat([on, torch.bincount(level.flatten(), minlength=15)]) / level.numel()
