"""Small games with known answers, batched: pure functions of state, action and noise in torch.

A ``Game`` defines what happens, what agents observe and what they earn; ``env.GameEnv`` is the
``VectorEnv`` around it. Every game's module states the best return that can be reached.
"""
