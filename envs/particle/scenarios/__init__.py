"""The scenarios by the name that follows ``mpe/``."""

from __future__ import annotations

from envs.particle.scenario import Scenario
from envs.particle.scenarios.adversary import Adversary
from envs.particle.scenarios.crypto import Crypto
from envs.particle.scenarios.formation import Formation, Line
from envs.particle.scenarios.push import Push
from envs.particle.scenarios.reference import Reference
from envs.particle.scenarios.simple import Simple
from envs.particle.scenarios.speaker_listener import SpeakerListener
from envs.particle.scenarios.spread import Spread
from envs.particle.scenarios.tag import Tag
from envs.particle.scenarios.treasure import CollectTreasure
from envs.particle.scenarios.world_comm import WorldComm

SCENARIOS: dict[str, type[Scenario]] = {
    "collect_treasure": CollectTreasure,
    "simple": Simple,
    "simple_adversary": Adversary,
    "simple_crypto": Crypto,
    "simple_formation": Formation,
    "simple_line": Line,
    "simple_push": Push,
    "simple_reference": Reference,
    "simple_speaker_listener": SpeakerListener,
    "simple_spread": Spread,
    "simple_tag": Tag,
    "simple_world_comm": WorldComm,
}
