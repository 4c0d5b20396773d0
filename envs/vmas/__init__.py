"""Adapter of VMAS: its 41 scenarios as a ``VectorEnv``."""
