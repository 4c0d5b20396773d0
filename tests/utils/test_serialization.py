"""Configurations survive config.json, or are refused before a run begins."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from marl.envs.task import Task
from marl.errors import UserError
from marl.utils.serialization import from_plain, to_plain


def stored(value: Any) -> Any:
    return from_plain(json.loads(json.dumps(to_plain(value))), lambda path: Nested)


@dataclass
class Nested:
    options: dict[Any, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    "value",
    [
        {0: 1.0, 1: 2.0},
        {"a": {True: [1, None], 2.5: "x"}},
        {None: {}},
        {"_pairs": 1, "b": [{3: 4}]},
    ],
)
def test_keys_keep_their_kind(value: Any) -> None:
    assert stored(value) == value
    assert stored(Nested(value)) == Nested(value)
    assert [type(key) for key in stored(value)] == [type(key) for key in value]


def test_numbers_of_numpy_and_torch_are_numbers() -> None:
    value = {"size": np.int64(3), "share": np.float32(0.5), "on": np.bool_(True)}
    assert stored(value) == {"size": 3, "share": 0.5, "on": True}
    assert stored([torch.tensor(2)]) == [2]


class Kind(Enum):
    A = 1


@pytest.mark.parametrize("value", [Path("x"), Kind.A, {1, 2}, np.zeros(2), print, b"x"])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match=r"a setting holds .* config.json cannot hold; use numbers"):
        to_plain(Task("games/climbing", kwargs={"x": value}))
