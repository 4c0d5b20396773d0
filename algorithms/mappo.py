"""MAPPO and IPPO: proximal policy optimisation with a critic of any scope (Yu et al. 2022).

The loss, per agent i with ratio r = pi(a|o) / pi_old(a|o):

    actor   -min(r A, clip(r, 1-eps, 1+eps) A) - c H(pi)          averaged over live agents
    critic  max(huber(V - R), huber(clip(V, V_old +- eps) - R))   in normalised values

and, of a joint policy whose graph is annealed, c_d |density - wanted density|
(``marl.policies.dag``), with A by generalised advantage estimation from denormalised
values, R = A + V. IPPO is the same with a critic of scope ``agent`` and the agents' own rewards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from marl.algorithm import Context
from marl.critics.inputs import SCOPES
from marl.critics.value import value_critic
from marl.learning import losses, returns
from marl.learning.on_policy import (
    Batch,
    Memory,
    chunk_length,
    drawn_chunks,
    minibatch,
    normalize,
    rollout_carries,
    rollout_values,
)
from marl.learning.optimizer import Optimizer
from marl.learning.rewards import REWARDS, team_alive
from marl.networks.observation_norm import observe
from marl.policies.base import DifferentiablePolicy
from marl.policies.bayesian import JointPolicy, team_policy
from marl.policies.dag import BayesianNetworkConfig, density
from marl.types import Carry, Metrics, Observation, PolicyStep, Rollout
from marl.utils import distributed
from marl.utils.compilation import compiled
from marl.utils.validation import check_range, check_word


@dataclass
class MAPPOConfig:
    """Hyperparameters of MAPPO."""

    critic: str = "team"  # what the critic sees: agent, team, all (every team), or state
    reward: str = "team_mean"  # own, team_sum or team_mean
    actor_lr: float = 5e-4
    critic_lr: float = 5e-4
    anneal_lr: bool = False  # linearly to 0 over the run
    adam_eps: float = 1e-5
    max_grad_norm: float = 10.0
    gamma: float = 0.99  # discount
    gae_lambda: float = 0.95
    clip: float | None = 0.2  # of the ratio; null for none
    value_clip: float | None = 0.2  # of the value, in normalised units; null for none
    huber: float | None = 10.0  # error beyond which the value loss grows linearly; null for never
    entropy: float = 0.01  # weight of the entropy bonus
    epochs: int = 10  # passes over each rollout
    minibatch_size: int = 0  # frames (environment steps, all agents); 0 for the whole rollout
    chunk_length: int = 10  # steps backpropagated through, with a recurrent network
    normalize_advantage: bool = True
    normalize_value: bool = True
    target_kl: float | None = None  # stop the epochs above 1.5 times this; null for never
    compile: bool = False  # each minibatch's step into one graph (a minute, at the first)
    joint: BayesianNetworkConfig = field(
        default_factory=BayesianNetworkConfig
    )  # the Bayesian network of the team's policies

    def __post_init__(self) -> None:
        check_word("critic", self.critic, SCOPES)
        check_word("reward", self.reward, REWARDS)
        check_range(
            self, actor_lr=(0, 1), critic_lr=(0, 1), gamma=(0, 1), gae_lambda=(0, 1), clip=(0, 10),
            value_clip=(0, math.inf), huber=(0, math.inf), entropy=(0, math.inf), epochs=(1, 1000),
            minibatch_size=(0, math.inf), chunk_length=(1, math.inf), max_grad_norm=(0, math.inf),
            target_kl=(0, math.inf),
        )  # fmt: skip

    def policy(self, context: Context) -> DifferentiablePolicy:
        return team_policy(context.team, context.model, self.joint).to(context.device)

    def build(self, context: Context) -> MAPPO:
        return MAPPO(self, context)


@dataclass
class IPPOConfig(MAPPOConfig):
    """Independent PPO (de Witt et al. 2020): every agent's critic sees its own observation only."""

    critic: str = "agent"
    reward: str = "own"


class MAPPO:
    def __init__(self, config: MAPPOConfig, context: Context):
        self.config, self.context, self.team = config, context, context.team
        self.scheme, self.scope = REWARDS[config.reward], SCOPES[config.critic]
        self.policy = config.policy(context)
        critic = value_critic(
            self.scope,
            team=self.team,
            everyone=context.everyone,
            state_size=context.state_size,
            heads=self.scheme.heads(self.team),
            model=context.critic_model,
        )
        assert isinstance(critic, nn.Module)
        self.critic = critic.to(context.device)
        norm = returns.ValueNorm() if config.normalize_value else returns.NoNorm()
        self.value_norm = norm.to(context.device)
        self.value_layers = critic.last_layers if config.normalize_value else []
        self.optimizer = Optimizer(
            {"actor": self.policy.parameters(), "critic": self.critic.parameters()},
            {"actor": config.actor_lr, "critic": config.critic_lr},
            config.adam_eps,
            config.max_grad_norm,
        )
        # Weight and aim of the graph's density; a tensor, so that compiled code sees it move.
        self.density = torch.zeros(2, device=context.device)
        self.critic_carry: Carry = self.critic.initial_carry(context.num_envs)
        self.iteration = 0
        self.recurrent = bool(self.critic_carry or self.policy.initial_carry(1))
        self.chunk = chunk_length(config.chunk_length, context.steps, self.recurrent)
        distributed.part(
            "minibatch_size", config.minibatch_size
        )  # or tell at once that there is none
        compiler = compiled if config.compile else lambda function: function
        self.step, self.explore = compiler(self._step), compiler(self.policy.act)

    @torch.no_grad()
    def act(
        self,
        obs: Observation,
        carry: Carry,
        start: Tensor,
        generator: torch.Generator,
        explore: bool = True,
    ) -> PolicyStep:
        if not explore:
            return self.policy.act(obs, carry, start, None)
        return self.explore(obs, carry, start, self.policy.noise(len(start), generator))

    # ------------------------------------------------------------------------------------- learning

    def update(self, rollout: Rollout) -> Metrics:
        """Several epochs over one rollout (Yu et al. 2022, algorithm 1)."""
        self._schedule()
        batch, memory = self._prepare(rollout)
        epochs: list[Tensor] = []
        for _ in range(self.config.epochs):
            epochs.append(self._epoch(self.step, batch, memory))
            if self._moved_too_far(kl=epochs[-1][3]):
                break
        observe([self.policy, self.critic], rollout.obs)
        names = ("policy_loss", "value_loss", "entropy", "kl", "clip_fraction")
        if isinstance(self.policy, JointPolicy):
            names += ("density",)
        names += ("actor_grad_norm", "critic_grad_norm")
        return dict(zip(names, torch.stack(epochs).mean(0).unbind(), strict=True))

    def _epoch(self, step: Callable[..., Tensor], batch: Batch, memory: Memory) -> Tensor:
        """One pass over the rollout, a ``step`` for every minibatch; the mean statistics."""
        draw = drawn_chunks(batch, self.chunk, self._frames, self.context.generator)
        return torch.stack([step(batch, memory, some) for some in draw]).mean(0)

    def _step(self, batch: Batch, memory: Memory, chunks: Tensor) -> Tensor:
        """One gradient step of actor and critic on these chunks; returns the statistics as one
        vector."""
        loss, stats = self._losses(*minibatch(batch, memory, chunks, self.chunk, self.recurrent))
        return torch.cat([stats, self.optimizer.step(loss)])

    def _losses(self, batch: Batch, memory: Memory) -> tuple[Tensor, Tensor]:
        """The actor's and the critic's loss (they share no parameter) summed, and statistics."""
        played, graph = (batch.obs, batch.action, memory.actor, batch.start, batch.aux), None
        if isinstance(self.policy, JointPolicy):
            graph = self.policy.graph(batch.obs, batch.aux[self.policy.first])
            log_probs, entropies = self.policy.along(graph, *played)
        else:
            log_probs, entropies = self.policy.evaluate(*played)
        log_prob = torch.cat([log_probs[name] for name in self.team], dim=-1)
        entropy = torch.cat([entropies[name] for name in self.team], dim=-1)
        actor_loss, (policy_loss, *others) = self._actor_loss(log_prob, entropy, batch)
        if graph is not None:
            weight, target = self.density.unbind()
            found = density(graph)
            actor_loss = actor_loss + weight * (found - target).abs().mean()
            others.append(found.detach().mean())
        value_loss = self._value_loss(batch, memory)
        return actor_loss + value_loss, torch.stack([policy_loss, value_loss.detach(), *others])

    def _actor_loss(
        self, log_prob: Tensor, entropy: Tensor, batch: Batch
    ) -> tuple[Tensor, list[Tensor]]:
        """With the entropy bonus; and policy loss, entropy, KL and clipped fraction by themselves.

        Args:
            log_prob, entropy: of the policy as it is now, shaped as the batch's ``log_prob``.
        """
        config, log_ratio = self.config, log_prob - batch.log_prob
        loss = losses.masked_mean(self.surrogate(log_ratio, batch.advantage), batch.alive)
        mean_entropy = losses.masked_mean(entropy, batch.alive)
        with torch.no_grad():
            kl = losses.masked_mean(losses.approximate_kl(log_ratio), batch.alive)
            beyond = log_ratio.expm1().abs() > (math.inf if config.clip is None else config.clip)
            clip_fraction = losses.masked_mean(beyond.float(), batch.alive)
        stats = [loss.detach(), mean_entropy.detach(), kl, clip_fraction]
        return loss - config.entropy * mean_entropy if config.entropy else loss, stats

    def _value_loss(self, batch: Batch, memory: Memory) -> Tensor:
        value, _ = self.critic(batch.obs, memory.critic, batch.start)
        errors = losses.value_loss(
            value, batch.value, batch.target, self.config.value_clip, self.config.huber
        )
        return losses.masked_mean(errors, self.scheme.mask(batch.alive))

    def surrogate(self, log_ratio: Tensor, advantage: Tensor) -> Tensor:
        """What the actor minimises, per agent and frame; the place for a variant."""
        return losses.clipped_surrogate(log_ratio, advantage, self.config.clip)

    # ---------------------------------------------------------------------------- before the epochs

    @torch.no_grad()
    def _prepare(self, rollout: Rollout) -> tuple[Batch, Memory]:
        """Values, advantages and targets of the rollout, and the memories its chunks start from."""
        scheme, team = self.scheme, self.team
        rollout = replace(rollout, next_obs=scheme.successor(rollout, team))
        value, next_value, critic_memory, self.critic_carry = rollout_values(
            self.critic, rollout, self.critic_carry, self.chunk, self._frames
        )
        alive, shape = team_alive(rollout.obs, team), value.shape
        advantage, target = returns.gae(
            scheme.reward(rollout, team).expand(shape),
            self.value_norm.denormalize(value),
            self.value_norm.denormalize(next_value),
            scheme.terminated(rollout, team).expand(shape),
            scheme.done(rollout, team).expand(shape),
            self.config.gamma,
            self.config.gae_lambda,
        )
        rescaling = self.value_norm.update(target, value, scheme.mask(alive))
        rescaling.of_layers(self.value_layers)
        if self.config.normalize_advantage:
            live = alive if alive is not None and alive.shape == shape else None
            advantage = normalize(advantage, live)
        batch = Batch(
            obs=self._relevant(rollout.obs),
            action={name: rollout.action[name] for name in self.team},
            aux={name: rollout.aux[name] for name in self.team},
            start=rollout.start,
            log_prob=torch.cat([rollout.log_prob[name] for name in self.team], dim=-1),
            alive=alive,
            advantage=advantage,
            value=rescaling(value),
            target=self.value_norm.normalize(target),
        )
        return batch, Memory(rollout_carries(self.policy, rollout, self.chunk), critic_memory)

    def _relevant(self, obs: Observation) -> Observation:
        groups = self.scope.groups(self.team, self.context.everyone)
        state = obs.state if self.scope.reads_state else None
        return Observation({name: obs.groups[name] for name in groups}, state, obs.graph)

    @property
    def _frames(self) -> int:
        """Frames of one minibatch, of this rank's part."""
        whole = self.context.steps * self.context.num_envs
        return distributed.part("minibatch_size", self.config.minibatch_size) or whole

    @property
    def minibatch_frames(self) -> int:
        """How many frames each gradient step reads, on this rank."""
        return self._frames

    # ---------------------------------------------------------------------------------------- state

    def _schedule(self) -> None:
        left = 1 - self.iteration / self.context.iterations if self.config.anneal_lr else 1.0
        self.optimizer.scale_lr(left)
        progress = self.iteration / self.context.iterations
        for number, value in zip(self.density, self.config.joint.schedule(progress), strict=True):
            number.fill_(value)  # unlike a copy, nothing to wait for
        self.iteration += 1

    def _moved_too_far(self, kl: Tensor) -> bool:
        """Whether to stop the epochs: waits for the device, so only where a target is set."""
        target = self.config.target_kl
        return target is not None and distributed.average(kl).item() > 1.5 * target

    def state_dict(self) -> dict[str, Any]:
        return {
            "policy": self.policy.state_dict(),
            "critic": self.critic.state_dict(),
            "value_norm": self.value_norm.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "critic_carry": dict(self.critic_carry),
            "generator": self.context.generator.get_state(),
            "iteration": self.iteration,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("policy", "critic", "value_norm", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.critic_carry = state["critic_carry"]
        self.context.generator.set_state(state["generator"].cpu())
        self.iteration = state["iteration"]
