"""Adapter of Gymnasium environments with tuples of agents; imports no torch, as workers use it."""
