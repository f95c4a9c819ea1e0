"""How a federation asks, waits, checks, adds up and hides: two tables of a study.

``[federation]`` and ``[privacy]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from segfed.dp_rules import DifferentialPrivacy
from segfed.settings import Settings

Algorithm = Literal["fedavg", "fedavgm", "fedadam", "fedyogi", "scaffold"]
Weighting = Literal["cases", "steps", "sites", "fedcostwavg", "fedpidavg"]
PersonalLayers = Literal["norm", "head"]

Compression = Literal["none", "fp16", "int8", "int4"]

# Those of Flower's strategies, from which the arithmetic comes as well.
_SERVER_LEARNING_RATES: dict[Algorithm, float] = {
    "fedavg": 1.0,
    "fedavgm": 1.0,
    "fedadam": 0.1,
    "fedyogi": 0.01,
    "scaffold": 1.0,
}


class FederationRules(Settings):
    """The server's part of a study; hospitals approve it with the rest of the manifest."""

    algorithm: Algorithm = "fedavg"
    """What the server makes of the mean of the updates: the new model itself (``fedavg``), or a
    step towards it with momentum (``fedavgm``) or a rate of its own for each weight. With
    ``scaffold`` it is the mean, and each site is told how its steps differ from all sites'."""

    proximal_mu: Annotated[float, Field(ge=0)] = 0.0
    """FedProx: each site adds (mu / 2) ||w - w0||² to its loss; 0 leaves the loss as it is."""

    server_learning_rate: PositiveFloat | None = None
    """Of ``fedavgm``, ``fedadam`` and ``fedyogi``; Flower's own value unless stated."""

    server_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of ``fedavgm``; beta 1 of ``fedadam`` and ``fedyogi``."""

    server_beta_2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    server_tau: PositiveFloat = 1e-3
    """Added to the root of the second moment; the larger, the less the rates differ by weight."""

    weighting: Weighting = "cases"
    """What a site's update counts by, ``sites`` being once each, as all but the ``mean`` do.
    ``fedcostwavg`` and ``fedpidavg`` add to the share of the cases how each site's loss falls."""

    personal: tuple[PersonalLayers, ...] = ()
    """Layers that each site trains on from its own, and not from the sites' mean: ``norm`` is
    FedBN. The global model holds their mean all the same."""

    aggregation: Literal["mean", "median", "trimmed_mean", "krum", "multi_krum"] = "mean"
    """``median`` and ``trimmed_mean`` are taken weight by weight, and bear some hostile sites.
    ``krum`` takes the one update that lies closest to the others, ``multi_krum`` the mean of the
    n - f - 2 closest of n."""

    hostile_sites: PositiveInt = 1
    """f, the hostile sites that ``krum`` and ``multi_krum`` are to bear: n must be 2 f + 3."""

    clip_norm_ratio: PositiveFloat | None = None
    """An update longer than so many times the round's median is shortened to that length; none
    is, unless stated. FLAME takes 1."""

    suspects: Literal["report", "drop"] = "report"
    """What becomes of an update that looks wrong beside the others: it is named in the round's
    record, or does not count either."""

    trimmed_fraction: Annotated[float, Field(ge=0, lt=0.5)] = 0.2
    """Share of the sites that ``trimmed_mean`` leaves out at each end, rounded down."""

    early_stop_rounds: PositiveInt | None = None
    """Stop after so many rounds without a better validation Dice; never, unless stated."""

    minimum_sites: Annotated[int, Field(ge=2)] = 2
    """Usable updates that a round needs: the average of one site is that site's model."""

    round_deadline_seconds: PositiveFloat = 3600.0
    """How long a round waits for updates, and again for scores."""

    missed_rounds: PositiveInt = 1
    """A site that missed so many rounds in a row is asked, but no longer waited for until it
    answers or connects again."""

    max_cases: PositiveInt = 100_000
    """Largest believable case count; a larger one would only buy weight in the average."""

    max_update_norm: PositiveFloat | None = None
    """Largest Euclidean norm of (update - global model) over all tensors; unlimited unless stated,
    because it depends on network and learning rate."""

    compression: Compression = "none"
    """How a site's update travels: as whole weights, or as the change of each weight in a half, or
    in 8 or 4 bits with one scale for each output channel, where the site adds what rounding took to
    its next update."""

    max_norm_ratio: Annotated[float, Field(gt=1)] = 10.0
    """Largest norm in units of the round's median, where three or more sites answered.

    Bounding norms by their median is the rule of FLAME (Nguyen et al., USENIX Security 2022),
    which scales the larger ones down. Here only what lies far beyond is dropped: sites
    with other scanners and labels honestly differ by small factors, while an update scaled up to
    replace the mean of n sites (Bagdasaryan et al., AISTATS 2020) must be about n times as large.
    """

    @property
    def server_rate(self) -> float:
        """The server's learning rate, as stated or by the algorithm."""
        return self.server_learning_rate or _SERVER_LEARNING_RATES[self.algorithm]

    @property
    def remembers(self) -> bool:
        """Whether the server keeps more than the model from round to round."""
        return self.algorithm in {"fedadam", "fedyogi", "scaffold"} or (
            self.algorithm == "fedavgm" and self.server_momentum > 0
        )

    def count(self, *, n_cases: int, steps: float) -> int:
        """What an update is weighted by."""
        if self.weighting == "sites":
            return 1
        return int(steps) if self.weighting == "steps" else n_cases

    def max_count(self, *, steps_per_round: int) -> int:
        """The most that an update can be weighted by."""
        return self.count(n_cases=self.max_cases, steps=steps_per_round)

    @property
    def uses_krum(self) -> bool:
        """Whether updates are chosen by their distances."""
        return self.aggregation in {"krum", "multi_krum"}

    @property
    def weighs_losses(self) -> bool:
        """Whether updates count by the losses that sites report."""
        return self.weighting in {"fedcostwavg", "fedpidavg"}

    @model_validator(mode="after")
    def _algorithm_sees_what_it_needs(self) -> Self:
        if problems := "; ".join(self._contradictions()):
            raise ValueError(problems)
        return self

    def _contradictions(self) -> Iterator[str]:
        """One phrase for each pair of settings of which one undoes the other."""
        scaffold = "algorithm 'scaffold'" if self.algorithm == "scaffold" else None
        weighting = f"weighting {self.weighting!r}" if self.weighs_losses else None
        for name in filter(None, (scaffold, weighting)):
            if self.aggregation != "mean":
                yield (
                    f"{name} is for the sites' weighted mean, but aggregation is "
                    f"{self.aggregation!r}: set that to 'mean', or remove the former"
                )
        for name in filter(None, (scaffold, "personal" if self.personal else None)):
            if self.clip_norm_ratio is not None:
                yield (
                    f"{name} needs updates of full length, which clip_norm_ratio shortens: remove "
                    "one or the other"
                )
        if self.personal and self.algorithm != "fedavg":
            yield (
                f"personal layers never start from the sites' mean, but algorithm "
                f"{self.algorithm!r} steers by it: take 'fedavg', or remove personal"
            )
        if len(set(self.personal)) < len(self.personal):
            yield f"personal lists something twice: {', '.join(self.personal)}"

    @model_validator(mode="after")
    def _krum_has_enough_sites(self) -> Self:
        fewest = 2 * self.hostile_sites + 3
        if self.uses_krum and self.minimum_sites < fewest:
            raise ValueError(
                f"aggregation {self.aggregation!r} bears {self.hostile_sites} hostile sites among "
                f"{fewest} or more, but minimum_sites is {self.minimum_sites}: set it to {fewest}, "
                "lower hostile_sites, or take the median"
            )
        return self


class PrivacyRules(Settings):
    """What of a site's update the server may see; hospitals approve it with the manifest."""

    clip_norm: PositiveFloat | None = None
    """Sites shorten updates that are longer than this Euclidean norm; none does, unless stated.
    Take it from ``update_norm`` of a run that went well."""

    secure_aggregation: bool = False
    """Sites mask their updates so that the server learns nothing but the sum."""

    threshold: Annotated[int, Field(ge=2)] | None = None
    """Sites that every sum is over, at least; more than half of the study's, so that no two groups
    of sites can give away different sums of one round."""

    differential_privacy: DifferentialPrivacy | None = None
    """Noise with a budget; none, and so no such promise, unless stated."""

    @model_validator(mode="after")
    def _masks_have_a_range_and_a_threshold(self) -> Self:
        if self.secure_aggregation and (self.threshold is None or self.clip_norm is None):
            raise ValueError(
                "secure_aggregation needs threshold and clip_norm: state both, clip_norm from the "
                "update_norm of a run that went well"
            )
        if self.threshold is not None and not self.secure_aggregation:
            raise ValueError("threshold is for secure_aggregation: set that to true, or remove it")
        return self


def check_together(
    federation: FederationRules, privacy: PrivacyRules, *, seconds_per_round: float | None = None
) -> None:
    """Refuse what cannot be kept together.

    Args:
        federation: What the server does with the updates.
        privacy: What it sees of them.
        seconds_per_round: Of the study, after which sites begin no step.

    Raises:
        ValueError: Naming every setting that contradicts ``secure_aggregation``, or else what needs
            updates that ``clip_norm`` does not shorten, or else every setting that contradicts
            ``differential_privacy``.
    """
    found = ", ".join(_needs_single_updates(federation)) if privacy.secure_aggregation else ""
    if found:
        raise ValueError(
            f"secure_aggregation hides each site's update from the server, which {found} would "
            "have to see: remove one or the other"
        )
    needs_length = "algorithm 'scaffold'" if federation.algorithm == "scaffold" else ""
    needs_length = "personal" if federation.personal else needs_length
    if needs_length and privacy.clip_norm is not None:
        raise ValueError(
            f"{needs_length} needs updates of full length, which clip_norm of [privacy] shortens: "
            "remove one or the other"
        )
    found = "; ".join(_unaccountable(federation, privacy, seconds_per_round))
    if found:
        raise ValueError(
            f"differential_privacy could not keep its promise: {found}. Change that, or remove "
            "differential_privacy"
        )


def _needs_single_updates(rules: FederationRules) -> Iterator[str]:
    """Settings that nobody can keep who sees only a sum."""
    if rules.aggregation != "mean":
        yield f"aggregation {rules.aggregation!r}"
    if rules.algorithm == "scaffold":
        yield "algorithm 'scaffold'"
    if rules.weighs_losses:
        yield f"weighting {rules.weighting!r} (the sites themselves multiply by their cases)"
    if rules.clip_norm_ratio is not None:
        yield "clip_norm_ratio"
    if rules.max_update_norm is not None:
        yield "max_update_norm (clip_norm of [privacy] bounds the mean instead)"
    if rules.suspects == "drop":
        yield "suspects 'drop'"
    if rules.compression != "none":
        yield f"compression {rules.compression!r} (masked updates are whole numbers of 64 bits)"


_NOTHING_BESIDE_THE_UPDATE: tuple[Algorithm, ...] = ("fedavg", "fedavgm", "fedadam", "fedyogi")
"""Algorithms to whose updates alone noise must be added, because sites send nothing else."""


def _unaccountable(
    federation: FederationRules, privacy: PrivacyRules, seconds_per_round: float | None
) -> Iterator[str]:
    """Settings under which more would leave than the noise is made for."""
    rules = privacy.differential_privacy
    if rules is None:
        return
    if federation.algorithm not in _NOTHING_BESIDE_THE_UPDATE:
        yield f"algorithm {federation.algorithm!r} sends more than an update, or corrects steps"
    if federation.weighs_losses:
        yield f"weighting {federation.weighting!r} needs losses, which do not leave"
    if seconds_per_round is not None:
        yield "with seconds_per_round the number of steps tells something about the data"
    if rules.unit == "site":
        if not privacy.secure_aggregation:
            yield "unit 'site' needs secure_aggregation, or the server sees updates one by one"
        if federation.weighting != "sites":
            yield (
                f"unit 'site' needs weighting 'sites', because weighting {federation.weighting!r} "
                "lets one site count for more than the noise hides"
            )
