"""The environments: adapters of other packages, native batched worlds, and tasks by name."""

from typing import TYPE_CHECKING

from marl.utils.moved import old_names

if not TYPE_CHECKING:
    __getattr__ = old_names("envs")
