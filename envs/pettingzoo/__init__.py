"""Adapter of PettingZoo and mpe2: copies of any parallel environment, in process or in workers.

This file imports nothing, so that worker processes need no torch.
"""
