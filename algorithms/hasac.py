"""HASAC, MASAC and ISAC: soft actor-critics for teams (Liu et al. 2024; Haarnoja et al. 2018).

With twin critics Q_1, Q_2 of the joint action, their target networks Q', and temperatures alpha_i
of every agent and alpha_c of the team::

    critics   (Q_k(s, a) - y)^2
              y = G + discount (min_k Q'_k(s', a') - alpha_c sum_i log pi_i(a'_i|o'_i))
    actor i   E[alpha_i log pi_i(a_i|o_i) - min_k Q_k(s, a_1 .. a_n)]
    alpha_i   -log alpha_i (log pi_i(a_i|o_i) + H_i)

G is the n-step sum of rewards, a' comes from the current policies, and H_i is the target entropy.
Sums over agents are over those alive, and means of one agent over the steps in which it is alive.
HASAC updates its actors one after the other in a random order, each against the new actions of
those before it (Liu et al. 2024, algorithm 1). MASAC updates them together. ISAC's critics read one
agent each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from marl.algorithm import Context
from marl.algorithms.actor_critic import ActorCritic
from marl.algorithms.off_policy import OffPolicyConfig
from marl.critics.incremental import FirstLayer
from marl.critics.joint_actions import Actions
from marl.errors import UserError
from marl.learning.losses import masked_mean, masked_means, mean_stats
from marl.learning.optimizer import Optimizer
from marl.learning.recurrent import next_carry, next_params_of, params_of
from marl.learning.replay import ReplayBatch
from marl.policies.base import DifferentiablePolicy
from marl.policies.bayesian import team_policy
from marl.policies.distributions import masked_log_softmax
from marl.types import (
    ActionSpec,
    Continuous,
    Discrete,
    Metrics,
    MultiDiscrete,
    Noise,
    Rollout,
    Stats,
)
from marl.utils.validation import check_range

MAX_ENTROPY_PER_DIMENSION = math.log(2)  # nats of the uniform distribution on [-1, 1]


@dataclass
class HASACConfig(OffPolicyConfig):
    """Hyperparameters of HASAC.

    Every agent's policy has weights of its own, whatever ``model.sharing`` says. Learning rates and
    warm-up are those of the authors' code (HARL) on MPE, which takes ``n_step`` 20 and
    ``batch_size`` 1,000.
    """

    #: Whether the agents' policies are updated one after the other, each against the new policies
    #: of those before it; false makes it MASAC.
    sequential: bool = True
    #: Learning rate of the temperatures; usual 3e-4 to 3e-3.
    alpha_lr: float = 3e-4
    #: One fixed temperature for all agents and the team; usual 0.01 to 0.2, null to learn a
    #: temperature for each.
    temperature: float | None = None
    #: Target entropy of discrete actions, as a share of the largest entropy log(n); usual 0.1 to
    #: 0.5, 0.98 is often too high. Only with ``temperature=null``.
    entropy_target: float = 0.2
    #: Target entropy of continuous actions, in nats for each dimension scaled to [-1, 1]; usual -1
    #: (Haarnoja et al. 2018), at most log 2. Only with ``temperature=null``.
    entropy_per_dimension: float = -1.0
    #: Whether actors take the exact expectation over an agent's own choices in place of a sample;
    #: only with Discrete actions and ``joint.graph=none``.
    exact: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(
            self, alpha_lr=(0, 1), temperature=(0, math.inf), entropy_target=(0, 1),
            entropy_per_dimension=(-100, MAX_ENTROPY_PER_DIMENSION),
        )  # fmt: skip
        if self.exact and self.joint.graph != "none":
            raise UserError(
                "exact=true works only with independent policies, not "
                f"joint.graph={self.joint.graph}; set joint.graph=none"
            )

    def policy(self, context: Context) -> DifferentiablePolicy:
        return team_policy(context.team, self.model(context), self.joint).to(context.device)

    def build(self, context: Context) -> HASAC:
        return HASAC(self, context)


@dataclass
class MASACConfig(HASACConfig):
    """Hyperparameters of MASAC: HASAC's, with all actors updated together."""

    #: Whether the agents' policies are updated one after the other; false is what makes it MASAC.
    sequential: bool = False


@dataclass
class ISACConfig(MASACConfig):
    """Hyperparameters of ISAC, independent soft actor-critics: MASAC's, with local critics."""

    #: What the critics read, ``agent``, ``team``, ``all`` or ``state``; ``agent`` is what makes the
    #: learners independent.
    critic: str = "agent"
    #: What a return sums: each agent's ``own`` rewards, or the team's ``team_sum`` or
    #: ``team_mean``.
    reward: str = "own"


class HASAC(ActorCritic):
    """Heterogeneous-agent soft actor-critic, and MASAC and ISAC by its configuration.

    Sources: Liu et al. 2024, "Maximum Entropy Heterogeneous-Agent Reinforcement Learning"; Haarnoja
    et al. 2018, "Soft Actor-Critic Algorithms and Applications".

    Differences from the authors' code (HARL):

    - The target entropy of discrete actions is a share of log(n); there it is 0 by a mistake.
    - All temperatures take one step after the actors. The result is the same, for no actor's loss
      reads another agent's temperature.
    - Under the agents' own rewards each critic's value holds that agent's entropy alone.
    - The dead are masked in every loss; ``exact`` and joint policies are additions.

    Entropies of continuous actions are those of actions scaled to [-1, 1], whatever their bounds.

    Args:
        config: hyperparameters.
        context: what the run gives an algorithm; with a replay.

    Raises:
        UserError: ``exact`` with other than Discrete actions, or as for ``ActorCritic``.
    """

    actor_stat_names = ("policy_loss", "entropy", "temperature")

    def __init__(self, config: HASACConfig, context: Context):
        super().__init__(config, context, config.policy(context), k=2)
        self.config: HASACConfig = config
        specs = [self.team[name].action for name, _ in self.agents]
        if config.exact and not all(isinstance(spec, Discrete) for spec in specs):
            raise UserError(
                "exact=true needs agents that have one choice each (Discrete actions); "
                "set exact=false"
            )
        targets = [
            entropy_target(spec, config.entropy_target, config.entropy_per_dimension)
            for spec in specs
        ]
        self.entropy_target = torch.tensor(targets, device=context.device)  # [N]
        initial = math.log(config.temperature) if config.temperature else 0.0
        self.log_alpha = torch.full((len(specs) + 1,), initial, device=context.device)
        self.alpha_optimizer = Optimizer(
            {"": [self.log_alpha.requires_grad_()]},
            {"": config.alpha_lr},
            config.adam_eps,
            math.inf,
        )

    @property
    def alpha(self) -> Tensor:
        """Temperatures of all agents and, last, of the team, ``[N + 1]``."""
        return self.log_alpha.detach().exp()

    def update(self, rollout: Rollout) -> Metrics:
        """Takes the gradient steps that are due (Liu et al. 2024, algorithm 1).

        Args:
            rollout: the newest frames, ``[T, B]``, which the replay holds already.

        Returns:
            The means of the steps' statistics; empty where no step was due.
        """
        steps: list[Stats] = []
        for batch, (noise, *others) in self.batches(rollout):
            critic = self.update_critic(batch, noise, self.opponent_actions(batch))
            if self.actors_are_due:
                self.actor_stats = self.update_actors(self.remember(batch), others)
                self.update_targets()
            steps.append({**critic, **self.actor_stats})
        return mean_stats(steps)

    def actor_tensors(self) -> list[Tensor]:
        return [*super().actor_tensors(), *self.alpha_optimizer.tensors()]

    @torch.no_grad()
    def target(self, batch: ReplayBatch, noise: Noise, opponents: Actions) -> Tensor:
        """Computes ``y = G + discount (min_k Q'_k(s', a') - alpha log pi(a'|o'))``, ``[M, H]``.

        The entropy enters where the target bootstraps, not along the n steps. Log-probabilities of
        absent agents are 0. Arguments as in ``ActorCritic.target``.
        """
        params = next_params_of(self.policy, batch, noise)
        action, log_prob = self.policy.rsample(batch.next_obs, noise, params)
        carry = next_carry(self.target_critic, batch)
        q = self.target_critic(batch.next_obs, {**opponents, **action}, carry=carry).amin(0)
        log_probs = self._concatenate(log_prob)
        if self.critic.heads == 1:
            penalty = self.alpha[-1] * log_probs.sum(-1, keepdim=True)
        else:
            penalty = self.alpha[:-1] * log_probs
        return batch.reward + batch.discount * (q - penalty)

    def update_actors(self, batch: ReplayBatch, noise: list[Noise]) -> Stats:
        """Updates the actors, in turn by ``loss_of_agent`` or together by ``loss_simultaneous``,
        then the temperatures.

        Args:
            batch: M transitions.
            noise: noise of the actions in the losses and, in sequence, of those that the other
                agents observe.

        Returns:
            ``policy_loss``, ``entropy`` in nats and ``temperature``, means over the agents.
        """
        if self.agent_policies:
            loss, log_prob = self.step_in_turn(batch, *noise)
        else:
            loss, log_prob = self.loss_simultaneous(batch, *noise)
            self.actor_optimizers[0].step(loss)
        temperature = self.update_temperature(log_prob.detach(), self.alive(batch.obs))
        return {"policy_loss": loss.detach(), **temperature}

    def loss_simultaneous(self, batch: ReplayBatch, noise: Noise) -> tuple[Tensor, Tensor]:
        """Computes ``sum_i E[alpha_i log pi_i - min_k Q_k(s, a)]`` with all actions fresh."""
        if self.config.exact:
            return self._exact_losses(batch, noise)
        params = params_of(self.policy, batch, noise)
        action, log_prob = self.policy.rsample(batch.obs, noise, params)
        log_probs, alive = self._concatenate(log_prob), self.alive(batch.obs)
        q = self.q_per_agent(self.q_of_fresh(batch, action, action).amin(0), alive)
        return self.team_cost(self.alpha[:-1] * log_probs - q, alive), log_probs

    def loss_of_agent(
        self,
        agent: int,
        batch: ReplayBatch,
        noise: Noise,
        action: Actions,
        first: FirstLayer | None = None,
        params: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Computes ``E[alpha_i log pi_i - min_k Q_k(s, a)]`` with the agent's action fresh."""
        policy = self.agent_policies[agent]
        outputs: Tensor = params_of(policy, batch) if params is None else params
        if self.config.exact:
            cost, log_prob = self._exact_cost(agent, outputs.squeeze(-2), batch, action, first)
        else:
            fresh, log_prob = policy.rsample(batch.obs, noise, outputs)
            q = self.q_of_agent(batch, agent, fresh, action, first).amin(0)
            log_prob = log_prob.squeeze(-1)
            cost = self.alpha[agent] * log_prob - q
        return self.agent_cost(cost, agent, batch.obs), log_prob

    def _exact_losses(self, batch: ReplayBatch, noise: Noise) -> tuple[Tensor, Tensor]:
        """Computes ``loss_simultaneous`` with the exact expectation over each agent's choices."""
        outputs = params_of(self.policy, batch)
        action, _ = self.policy.rsample(batch.obs, noise, outputs)
        pairs = [
            self._exact_cost(agent, outputs[name][:, row], batch, action)
            for agent, (name, row) in enumerate(self.agents)
        ]
        cost, log_prob = (torch.stack(column, dim=-1) for column in zip(*pairs, strict=True))
        return self.team_cost(cost, self.alive(batch.obs)), log_prob

    def _exact_cost(
        self,
        agent: int,
        logits: Tensor,
        batch: ReplayBatch,
        action: Actions,
        first: FirstLayer | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Computes ``sum_a pi(a) (alpha log pi(a) - min_k Q_k(s, a, ..))`` over the agent's
        choices.

        Args:
            agent: its index in the team.
            logits: its policy's, ``[M, A]``.
            batch: M transitions.
            action: the team's current actions, ``[M, N, A]`` by group.
            first: the critics' first layers for these actions; None to compute them.

        Returns:
            The cost ``[M]``, and ``sum_a pi(a) log pi(a)``, ``[M]``.
        """
        name, row = self.agents[agent]
        mask = batch.obs.groups[name].action_mask
        log_probs = masked_log_softmax(logits, None if mask is None else mask[:, row])
        q = self._q_of_choices(agent, log_probs.shape[-1], batch, action, first).amin(0)
        probs = log_probs.exp()
        cost = (probs * (self.alpha[agent] * log_probs - q.detach())).sum(-1)
        return cost, (probs * log_probs).sum(-1)

    def _q_of_choices(
        self, agent: int, count: int, batch: ReplayBatch, action: Actions, first: FirstLayer | None
    ) -> Tensor:
        """Computes the critics' values of each of an agent's choices, ``[K, M, A]``.

        Args:
            agent: its index in the team.
            count: A, the number of its choices.
            batch: M transitions.
            action: the team's current actions, ``[M, N, A]`` by group.
            first: the critics' first layers for these actions; None to compute them.
        """
        (name, row), choices = self.agents[agent], torch.eye(count, device=batch.reward.device)
        if self.incremental is not None and first is not None:
            return self.incremental.value(first, agent, choices, action)
        joint = {n: a.detach().unsqueeze(1).expand(-1, count, *a.shape[1:]) for n, a in
                 {**batch.action, **action}.items()}  # fmt: skip
        agent_choices = choices.expand(len(batch.reward), -1, -1).unsqueeze(-2)  # [M, A, 1, A]
        group = joint[name]
        joint[name] = torch.cat([group[:, :, :row], agent_choices, group[:, :, row + 1 :]], dim=2)
        return self.q_of_joint(batch, joint)[..., agent if self.critic.heads > 1 else 0]

    def update_temperature(self, log_prob: Tensor, alive: Tensor | None = None) -> Stats:
        """Takes one step of all temperatures on ``-log alpha_i (log pi_i + H_i)``.

        Args:
            log_prob: log-probabilities of the actors' actions, ``[M, N]``.
            alive: 1.0 where an agent is alive, ``[M, N]``; None where all are.

        Returns:
            ``entropy``, the estimate -log pi, and ``temperature``, means over the agents.
        """
        if self.config.temperature is None:
            error = log_prob + self.entropy_target  # [M, N]
            team = error if alive is None else error * alive  # alpha_c: the sum over those alive
            error = torch.cat([masked_means(error, alive), team.sum(-1).mean(0, keepdim=True)])
            self.alpha_optimizer.step(-(self.log_alpha * error).sum())
        return {"entropy": -masked_mean(log_prob, alive), "temperature": self.alpha[:-1].mean()}

    def _concatenate(self, log_prob: Mapping[str, Tensor]) -> Tensor:
        """Returns all agents' values side by side, ``[M, N]``."""
        return torch.cat([log_prob[name] for name in self.team], dim=-1)

    def parts(self) -> dict[str, Any]:
        return {**super().parts(), "alpha_optimizer": self.alpha_optimizer}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "log_alpha": self.log_alpha.detach()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        with torch.no_grad():
            self.log_alpha.copy_(state["log_alpha"])


def entropy_target(spec: ActionSpec, share: float, per_dimension: float = -1.0) -> float:
    """Returns the target entropy H of one agent, in nats.

    Args:
        spec: its actions.
        share: share of the largest entropy, for Discrete and MultiDiscrete actions.
        per_dimension: nats for every dimension that the bounds leave free, of actions scaled to
            [-1, 1]; -1 is Haarnoja et al.'s.
    """
    match spec:
        case Continuous():
            return per_dimension * sum(spec.free)
        case Discrete():
            return share * math.log(spec.n)
        case MultiDiscrete():
            return share * sum(math.log(n) for n in spec.nvec)
