"""The server's step from the mean of the updates to the next model: Flower's own arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedYogi

from federation.messages import ARRAYS, METRICS, N_CASES, Weights
from segfed.errors import FederationError
from segfed.rules import FederationRules


@dataclass(frozen=True)
class GlobalModel:
    """All that one round hands to the next."""

    weights: Weights
    memory: Weights = field(default_factory=dict)
    """The server's momentum and second moments, by ``<kind>.<array>``, or the sites' variates;
    empty for ``fedavg``."""


def step(
    model: GlobalModel, mean: Weights, *, rules: FederationRules, round_number: int
) -> GlobalModel:
    """The next global model.

    With d the mean less the old weights w: ``fedavgm`` keeps m = beta m + d (d alone at first)
    and moves to w + rate m (Hsu et al. 2019). ``fedadam`` and ``fedyogi`` keep
    m = beta_1 m + (1 - beta_1) d and a second moment v, and move to w + rate m / (sqrt(v) + tau)
    (Reddi et al. 2021). Flower's ``fedadam`` also corrects the rate as Adam does, but one round
    ahead: by sqrt(1 - beta_2^(t + 1)) / (1 - beta_1^(t + 1)) in round t.

    Args:
        model: Before the round; its memory with the round's variates for ``scaffold``.
        mean: The aggregated updates.
        rules: Algorithm, rate and betas.
        round_number: Counted from 1 over the whole study, not from where a process began.
    """
    if rules.algorithm in {"fedavg", "scaffold"}:
        return GlobalModel(mean, model.memory)
    weights, memory = (_momentum if rules.algorithm == "fedavgm" else _adaptive)(
        model, mean, rules=rules, round_number=round_number
    )
    # Flower's arithmetic turns arrays without dimensions into float64 scalars.
    likes = {f"{kind}.{name}": value for kind in ("m", "v") for name, value in mean.items()}
    return GlobalModel(
        {name: np.asarray(weights[name], dtype=mean[name].dtype) for name in model.weights},
        {name: np.asarray(value, dtype=likes[name].dtype) for name, value in memory.items()},
    )


def _momentum(
    model: GlobalModel, mean: Weights, *, rules: FederationRules, round_number: int
) -> tuple[Weights, Weights]:
    """New weights and momentum of FedAvgM; Flower's momentum points against the updates."""
    flower = FedAvgM(server_learning_rate=rules.server_rate, server_momentum=rules.server_momentum)
    flower.current_arrays = _record(model.weights)
    if model.memory:
        flower.momentum_vector = [model.memory[f"m.{name}"] for name in model.weights]
    weights = _aggregated(flower, mean, round_number)
    memory = zip(model.weights, flower.momentum_vector or (), strict=False)
    return weights, {f"m.{name}": value for name, value in memory}


def _adaptive(
    model: GlobalModel, mean: Weights, *, rules: FederationRules, round_number: int
) -> tuple[Weights, Weights]:
    """New weights and moments of FedAdam or FedYogi."""
    make = FedAdam if rules.algorithm == "fedadam" else FedYogi
    flower = make(
        eta=rules.server_rate,
        beta_1=rules.server_momentum,
        beta_2=rules.server_beta_2,
        tau=rules.server_tau,
    )
    flower.current_arrays = model.weights
    if model.memory:
        flower.m_t = {name: model.memory[f"m.{name}"] for name in model.weights}
        flower.v_t = {name: model.memory[f"v.{name}"] for name in model.weights}
    weights = _aggregated(flower, mean, round_number)
    moments = {"m": flower.m_t or {}, "v": flower.v_t or {}}
    return weights, {
        f"{kind}.{name}": value
        for kind, values in moments.items()
        for name, value in values.items()
    }


def _aggregated(flower: FedAvg, mean: Weights, round_number: int) -> Weights:
    """What Flower's strategy makes of the mean, which it is given as the one reply."""
    content = RecordDict({ARRAYS: _record(mean), METRICS: MetricRecord({N_CASES: 1})})
    reply = Message(content, dst_node_id=0, message_type=MessageType.TRAIN)
    arrays, _ = flower.aggregate_train(round_number, [reply])
    if arrays is None:
        raise FederationError(
            "Flower's strategy made no model of a mean, expected one. Report this, with the "
            "version of flwr."
        )
    return {name: array.numpy() for name, array in arrays.items()}


def _record(weights: Weights) -> ArrayRecord:
    """Arrays as Flower's strategies take them, each by its name."""
    return ArrayRecord({name: Array(value) for name, value in weights.items()})
