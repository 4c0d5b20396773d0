"""One file per world; ``envs.particle.tasks`` names them."""
