"""The models that groups of sites would have made of one round's updates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from federation.messages import Weights
from segfed.errors import PrivacyError
from segfed.evaluation.contribution import Group, all_groups
from segfed.rules import PrivacyRules

_MOST_SITES = 10


def coalition_models(
    updates: Mapping[str, Weights],
    *,
    model: Weights,
    counts: Mapping[str, int],
    privacy: PrivacyRules,
) -> Iterator[tuple[Group, Weights]]:
    """For each group of sites, the mean of its models; the empty group leaves the model as it is.

    Scored and summed over rounds, these give the Shapley value of a federation without training
    anything again (Wang et al. 2020, https://arxiv.org/abs/2009.06192). They say what a site's
    update adds to a round that all sites began from one model, and not what the study would have
    been without the site.

    Args:
        updates: Each site's model after its local training.
        model: The global model that they started from.
        counts: What each site is weighted by.
        privacy: The study's; under secure aggregation nobody has single updates.

    Raises:
        PrivacyError: If the study hides single updates, or there are more than ten sites, whose
            groups are too many.
    """
    if privacy.secure_aggregation:
        raise PrivacyError(
            "Contributions of single sites were asked for in a study with secure_aggregation; "
            "expected one without: nobody has a single site's update there, and that is what it is "
            "for. Measure contributions in a simulation, or leave them out."
        )
    if len(updates) > _MOST_SITES:
        raise PrivacyError(
            f"Found {len(updates)} sites, which form {2 ** len(updates)} groups; expected at most "
            f"{_MOST_SITES} sites. Leave sites out, or join some into one."
        )
    for group in all_groups(updates):
        yield group, _mean(updates, model=model, counts=counts, group=group)


def _mean(
    updates: Mapping[str, Weights], *, model: Weights, counts: Mapping[str, int], group: Group
) -> Weights:
    """The mean of a group's models, weighted by counts, in float64 and by name."""
    if not group:
        return model
    total = sum(counts[site] for site in group)
    result = {}
    for name, array in model.items():
        summed = np.zeros(array.shape)
        for site in sorted(group):
            summed = summed + counts[site] * updates[site][name].astype(np.float64)
        result[name] = np.asarray(summed / total, dtype=array.dtype)
    return result
