"""The scenarios by the name that follows ``mpe/``."""

from __future__ import annotations

from envs.particle.scenario import Scenario
from envs.particle.scenarios.adversary import Adversary
from envs.particle.scenarios.push import Push
from envs.particle.scenarios.reference import Reference
from envs.particle.scenarios.simple import Simple
from envs.particle.scenarios.speaker_listener import SpeakerListener
from envs.particle.scenarios.spread import Spread
from envs.particle.scenarios.tag import Tag

SCENARIOS: dict[str, type[Scenario]] = {
    "simple": Simple,
    "simple_adversary": Adversary,
    "simple_push": Push,
    "simple_reference": Reference,
    "simple_speaker_listener": SpeakerListener,
    "simple_spread": Spread,
    "simple_tag": Tag,
}
