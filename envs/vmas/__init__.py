"""VMAS: its 41 scenarios behind the VectorEnv contract."""

from envs.vmas.env import MAX_STEPS, SCENARIOS, VmasEnv

__all__ = ["MAX_STEPS", "SCENARIOS", "VmasEnv"]
