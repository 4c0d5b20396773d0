"""Particle worlds (Lowe et al. 2017), batched: pure functions of state, action and noise in torch.

``physics`` moves bodies, a ``Scenario`` defines them, their observations and rewards, and
``env.ParticleEnv`` is the ``VectorEnv`` around both. ``envs.particle.env`` describes what all
worlds have in common: actions, episodes, units, and differences from mpe2 and OpenAI's MPE.
"""
