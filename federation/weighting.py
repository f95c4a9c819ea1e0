"""What each site's update counts by in the mean: cases, steps, or how its loss falls as well."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean

from federation.updates import SiteUpdate, believed_counts
from segfed.protocol import RoundRecord
from segfed.rules import FederationRules

_COST_SHARES = (0.5, 0.5)
"""FedCostWAvg: of the cases and of the cost's fall."""

_PID_SHARES = (0.45, 0.45, 0.1)
"""FedPIDAvg: of the cases, of the cost's fall and of the summed costs."""

_PID_ROUNDS = 6
"""Rounds that FedPIDAvg sums the cost over, the present one among them."""


def site_weights(
    updates: Collection[SiteUpdate], *, rules: FederationRules, earlier: Sequence[RoundRecord]
) -> dict[str, float]:
    """What each site's update counts by.

    With s the share of the cases and c the sites' losses, ``fedcostwavg`` (Mächler et al. 2021)
    takes 0.5 s + 0.5 k, k being the share of c(before) / c(now). ``fedpidavg`` (Mächler et al.
    2022) takes 0.45 s + 0.45 k + 0.1 m, k being the share of c(before) - c(now) and m that of the
    losses summed over six rounds; its choice of sites for a round is left out.

    The papers do not say what becomes of a site whose loss is not known yet, or rises. Here the
    former counts by its cases alone, and a rise counts as no fall; where no loss falls, all sites
    count by their cases.

    Args:
        updates: Those that count in this round.
        rules: Names the weighting.
        earlier: The records of the rounds before, which hold the losses.
    """
    counts: dict[str, float] = dict(believed_counts(updates, rules))
    if not rules.weighs_losses:
        return counts
    losses = {update.site: _losses(update, earlier) for update in updates}
    falling = {site: known for site, known in losses.items() if len(known) > 1}
    cases = _shares({}, counts)
    if rules.weighting == "fedcostwavg":
        ratios = {site: before / now for site, (*_, before, now) in falling.items()}
        terms = [cases, _shares(ratios, counts)]
        return _mixed(terms, _COST_SHARES)
    falls = {site: max(0.0, before - now) for site, (*_, before, now) in falling.items()}
    sums = {site: fmean(known[-_PID_ROUNDS:]) for site, known in falling.items()}
    return _mixed([cases, _shares(falls, counts), _shares(sums, counts)], _PID_SHARES)


def _losses(update: SiteUpdate, earlier: Sequence[RoundRecord]) -> list[float]:
    """A site's losses that are above 0, the present one last; none where it states none now."""
    now = update.metrics.get("loss")
    if now is None or now <= 0:
        return []
    known = [record.sites.get(update.site, {}).get("loss") for record in earlier]
    return [loss for loss in known if loss is not None and loss > 0] + [now]


def _shares(values: Mapping[str, float], counts: Mapping[str, float]) -> dict[str, float]:
    """Shares in proportion to values; a site without one keeps its share of the counts."""
    total_count, total = sum(counts.values()), sum(values.values())
    shares = {site: count / total_count for site, count in counts.items()}
    if total <= 0:
        return shares
    left = sum(shares[site] for site in values)
    return shares | {site: left * value / total for site, value in values.items()}


def _mixed(terms: Sequence[Mapping[str, float]], parts: Sequence[float]) -> dict[str, float]:
    """The sum of some shares, each times its part."""
    return {
        site: sum(part * term[site] for part, term in zip(parts, terms, strict=True))
        for site in terms[0]
    }
