"""Adapter of turn-based (AEC) environments of PettingZoo; imports no torch, as workers use it."""
