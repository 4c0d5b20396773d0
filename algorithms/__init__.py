"""The algorithms, one file each, and the names that they had in earlier versions."""

from typing import TYPE_CHECKING

from marl.utils.moved import old_names

if not TYPE_CHECKING:
    __getattr__ = old_names("algorithms")
