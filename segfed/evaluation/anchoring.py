"""Whether readers repeat the errors of a proposal that they were shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from segfed.evaluation.statistics import Estimate, SiteValues, finite_values

Labels = NDArray[np.integer[Any]]

_ANY_NEIGHBOUR = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class ProposalError:
    """A place where a proposal is clearly wrong, and whether a label repeats it."""

    volume_mm3: float
    agreement: float
    """Share of its voxels at which the label holds the proposal's wrong value."""

    @property
    def is_repeated(self) -> bool:
        """Whether the label agrees with the proposal in at least half of it."""
        return self.agreement >= 0.5


def proposal_errors(
    proposal: Labels,
    reference: Labels,
    label: Labels,
    *,
    spacing_mm: Sequence[float],
    tolerance_mm: float,
) -> tuple[ProposalError, ...]:
    """Every clear error of a proposal, and how far a label repeats it.

    A voxel is clearly wrong where the proposal's value differs from the reference's and the
    reference has the proposed value nowhere within the tolerance: contours that differ as two
    careful readers' do are no error. Neighbouring such voxels (26-connectivity) are one error.

    Args:
        proposal: Label values (I, J, K) that a model proposed, whether or not a reader saw them.
        reference: Label values on the same grid, drawn without the proposal by somebody else.
        label: The label that is judged, on the same grid.
        spacing_mm: Along I, J and K.
        tolerance_mm: Largest distance that still counts as the contour's uncertainty.
    """
    wrong = proposal != reference
    if not wrong.any():
        return ()
    # Distances up to the tolerance depend on no voxel further away than that.
    box = tuple(
        slice(max(0, part.start - more), part.stop + more)
        for part, more in zip(
            ndimage.find_objects(wrong.astype(np.uint8))[0],
            [1 + math.ceil(tolerance_mm / step) for step in spacing_mm],
            strict=True,
        )
    )
    proposal, reference, label, wrong = proposal[box], reference[box], label[box], wrong[box]
    clear = np.zeros(wrong.shape, dtype=bool)
    for value in np.unique(proposal[wrong]):
        elsewhere = reference != value
        if elsewhere.all():
            near = np.zeros(wrong.shape, dtype=bool)
        else:
            distance_mm = ndimage.distance_transform_edt(elsewhere, sampling=tuple(spacing_mm))
            near = distance_mm <= tolerance_mm
        clear |= wrong & (proposal == value) & ~near
    components, n_found = ndimage.label(clear, structure=_ANY_NEIGHBOUR)
    sizes = np.bincount(components.ravel(), minlength=n_found + 1)[1:]
    repeated = np.bincount(components[label == proposal], minlength=n_found + 1)[1:]
    voxel_mm3 = float(np.prod(spacing_mm))
    return tuple(
        ProposalError(volume_mm3=float(size * voxel_mm3), agreement=float(same / size))
        for size, same in zip(sizes, repeated, strict=True)
    )


def anchoring_gap(manual: SiteValues, assisted: SiteValues, *, level: float = 0.95) -> Estimate:
    """How much more often labels repeat a proposal's errors when their readers saw it.

    Difference (assisted minus manual) of the mean over sites of the mean over cases, with a t
    interval for new cases of these sites: each site's variance is that of its cases' influence on
    the difference, so that a case with labels of both arms counts as the pair that it is.

    Args:
        manual: Share of the proposal's errors that the label repeats, for each case of each site,
            by readers to whom the proposal was hidden. NaN where the proposal has no error.
        assisted: The same by readers who saw it.
        level: Coverage of the interval.

    Returns:
        The estimate, over the sites that have cases with errors in both arms; ``n`` counts their
        labels of both arms. Without an interval if an arm of a site has a single such case.

    References:
        Satterthwaite 1946, https://doi.org/10.2307/3002019.
    """
    arms = [_finite_cases(manual), _finite_cases(assisted)]
    sites = [site for site in arms[0] if site in arms[1]]
    n = sum(len(arm[site]) for arm in arms for site in sites)
    n_nan = sum(len(cases) for arm in (manual, assisted) for cases in arm.values()) - n
    if not sites:
        reason = "no site has cases of both arms in which the proposal is clearly wrong"
        return Estimate(None, None, None, n=0, n_nan=n_nan, reason=reason)
    means = [[float(np.mean(list(arm[site].values()))) for site in sites] for arm in arms]
    gap = float(np.mean(means[1]) - np.mean(means[0]))
    single = [site for site in sites if min(len(arm[site]) for arm in arms) < 2]
    if single:
        reason = f"only one case with a clear error in an arm at {', '.join(single)}"
        return Estimate(gap, None, None, n=n, n_nan=n_nan, reason=reason)
    parts = [_variance(arms[0][site], arms[1][site]) for site in sites]
    variance = sum(part for part, _ in parts) / len(sites) ** 2
    if variance == 0:
        return Estimate(gap, gap, gap, n=n, n_nan=n_nan)
    freedom = sum(part for part, _ in parts) ** 2 / sum(part**2 / df for part, df in parts)
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(variance)
    return Estimate(gap, gap - half, gap + half, n=n, n_nan=n_nan)


def _variance(manual: dict[str, float], assisted: dict[str, float]) -> tuple[float, int]:
    """Variance of one site's difference of means, and its degrees of freedom."""
    influence: dict[str, float] = {}
    for sign, arm in ((-1, manual), (1, assisted)):
        mean = np.mean(list(arm.values()))
        # n - 1 in place of n makes each arm's part the usual variance of a mean.
        weight = sign / math.sqrt(len(arm) * (len(arm) - 1))
        for case, value in arm.items():
            influence[case] = influence.get(case, 0.0) + weight * float(value - mean)
    both = manual.keys() & assisted.keys()
    df = len(influence) - (1 if len(both) == len(influence) else 2)
    return sum(value**2 for value in influence.values()), df


def _finite_cases(values: SiteValues) -> dict[str, dict[str, float]]:
    """The cases of each site that have a finite value, where there is one."""
    return {
        site: {case: v for case, v in values[site].items() if math.isfinite(v)}
        for site in finite_values(values)
    }
