"""Numbers that null stands for in configurations. Importable without torch."""

from __future__ import annotations

from typing import Any

#: What optimizers add to the root of their second moment: Adam's in torch, RMSprop's in PyMARL.
USUAL_EPS = {"adam": 1e-8, "rmsprop": 1e-5}


def with_usual(config: Any) -> Any:
    """Returns a stored configuration with numbers in place of null where null stands for one, so
    that runs which state the number and runs which leave it to the default compare as alike."""
    if isinstance(config, list):
        return [with_usual(item) for item in config]
    if not isinstance(config, dict):
        return config
    filled = {key: with_usual(value) for key, value in config.items()}
    if filled.get("adam_eps", 0) is None and filled.get("optimizer") in USUAL_EPS:
        filled["adam_eps"] = USUAL_EPS[filled["optimizer"]]
    return filled
