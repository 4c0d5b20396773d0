"""PettingZoo and mpe2: many copies of any parallel environment, in process or in workers.

This file imports nothing, so that worker processes need no torch.
"""
