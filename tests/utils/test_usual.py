"""Runs that state a number and runs that leave it to the default compare as alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from marl.algorithms.qmix import QMIXConfig
from marl.comparison.overview import read
from marl.comparison.settings import settings_of
from marl.utils.serialization import to_plain
from marl.utils.usual import with_usual
from tests.helpers import toy_runs


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_null_is_the_number_that_the_algorithm_takes(optimizer: str) -> None:
    config = QMIXConfig(optimizer=optimizer)
    filled: Any = with_usual([{"algorithm": to_plain(config)}])
    assert config.adam_eps is None and filled[0]["algorithm"]["adam_eps"] == config.eps
    own = to_plain(QMIXConfig(optimizer=optimizer, adam_eps=1e-3))
    assert with_usual(own) == own and with_usual({"adam_eps": None}) == {"adam_eps": None}


def test_runs_that_state_it_do_not_differ_from_those_that_do_not(tmp_path: Path) -> None:
    settings = []
    for number, eps in enumerate((None, 1e-8, 1e-5)):
        options = {"optimizer": "adam", "adam_eps": eps}
        run = toy_runs.run(tmp_path / str(number), options=options)
        text = json.loads((run / "config.json").read_text())
        assert "adam_eps" in json.dumps(text)
        settings.append(settings_of(read(run)))
    assert settings[0] == settings[1] != settings[2]
