"""The scenarios by the name that follows ``mpe/``."""

from __future__ import annotations

from envs.particle.scenario import Scenario
from envs.particle.scenarios.simple import Simple
from envs.particle.scenarios.spread import Spread

SCENARIOS: dict[str, type[Scenario]] = {"simple": Simple, "simple_spread": Spread}
