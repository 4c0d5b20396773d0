"""Particle worlds (Lowe et al. 2017), batched: pure functions of state, action and noise in torch.

``physics`` moves bodies, a ``Scenario`` says what they are, see and earn, ``env.ParticleEnv`` puts
both behind the ``VectorEnv`` contract."""
