"""VMAS: its 41 scenarios behind the VectorEnv contract."""
