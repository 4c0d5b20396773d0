"""Scenarios of the particle worlds, one file each; ``envs.particle.tasks`` names them."""
