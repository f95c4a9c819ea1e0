"""SCAFFOLD's control variates: which way each site steps, and how that differs from all sites.

The server keeps the variates of all sites and sends each site its correction c - c_i. In the paper
(Karimireddy et al. 2020, algorithm 1, option II) sites keep c_i and send its change. But that
change is c_i' - c_i = (x - y_i) / (K eta) - c, and the server knows all of it: it made x and c,
receives y_i, and the study states the rate of every step. So a site sends nothing but its weights,
under the checks that those have, and no site can fall out of step with the server: a reply that
was late, dropped or asked for twice leaves the variates as they were. The server's memory grows by
about four models for each site: its variate, its correction and the request that holds it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from federation.messages import Weights
from federation.server_optimizer import GlobalModel
from federation.spool import Spool
from segfed.learning_rate import summed_schedule
from segfed.protocol import CORRECTION_PREFIX, Manifest

Mean = dict[str, NDArray[np.float64]]


def corrections(model: GlobalModel, sites: Collection[str]) -> dict[str, Weights]:
    """c - c_i of some sites, as requests hold it; none before the first round.

    c is the mean of the variates, weighted as each site last counted, so that the corrections
    cancel out in the weighted mean of the updates; the paper weighs all sites alike. The variate of
    a site that never counted is 0.
    """
    if not model.memory:
        return {}
    mean = _mean(model)
    return {
        site: {
            CORRECTION_PREFIX + name: np.asarray(
                mean[name] - _variate(model, site, name), dtype=array.dtype
            )
            for name, array in model.weights.items()
        }
        for site in sites
    }


def variates_after(
    model: GlobalModel,
    spool: Spool,
    *,
    weights: Mapping[str, float],
    paths: Mapping[str, float],
) -> Weights:
    """The variates after a round, as the server remembers them.

    Args:
        model: What the sites started from, and the variates before.
        spool: The updates.
        weights: What each site that counts is weighted by.
        paths: How far each site's steps went, as `path_length` says.
    """
    mean, memory = _mean(model), dict(model.memory)
    for site, weight in weights.items():
        trained = spool.weights(site)
        memory[f"n.{site}"] = np.array(weight, dtype=np.float64)
        for name, start in model.weights.items():
            stepped = np.subtract(start, trained[name], dtype=np.float64) / paths[site]
            new = _variate(model, site, name) + stepped - mean[name]
            memory[f"c.{site}.{name}"] = np.asarray(new, dtype=start.dtype)
    return memory


def path_length(manifest: Manifest, round_number: int, *, steps: int) -> float:
    """The sum of the learning rates of a site's steps in a round: K eta where all are the same."""
    most = manifest.steps_per_round
    schedule = summed_schedule((round_number - 1) * most, steps, total_steps=manifest.rounds * most)
    return float(manifest.plan["learning_rate"]) * schedule


def _mean(model: GlobalModel) -> Mean:
    """c; 0 before the first round."""
    counts = {key[2:]: float(value) for key, value in model.memory.items() if key[:2] == "n."}
    mean: Mean = {name: np.zeros(array.shape) for name, array in model.weights.items()}
    for site, count in sorted(counts.items()):
        for name in mean:
            mean[name] += count / sum(counts.values()) * _variate(model, site, name)
    return mean


def _variate(model: GlobalModel, site: str, name: str) -> NDArray[np.float64]:
    """One array of c_i."""
    found = model.memory.get(f"c.{site}.{name}")
    return np.zeros(model.weights[name].shape) if found is None else found.astype(np.float64)
