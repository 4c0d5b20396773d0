"""Small games with known answers, batched: pure functions of state, action and noise in torch.

A ``Game`` says what happens and what is seen and earned, ``env.GameEnv`` puts it behind the
``VectorEnv`` contract. Every game's docstring states what is best, and by how much."""
