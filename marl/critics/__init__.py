"""Critics: values, and action values."""

from typing import TYPE_CHECKING

from marl.utils.moved import old_names

if not TYPE_CHECKING:
    __getattr__ = old_names("marl.critics")
