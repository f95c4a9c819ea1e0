"""The server's side of a round: ask every site, check every reply, add up what may count."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from flwr.app import Message
from flwr.serverapp import Grid

from federation.aggregation import aggregate
from federation.attendance import Attendance, Clock
from federation.messages import Weights
from federation.notes import RoundNotes
from federation.requests import RoundRequests
from federation.secure import SecureSum
from federation.server_optimizer import GlobalModel, step
from federation.similarity import Comparison, compare, outlier_scores, suspects
from federation.spool import Spool
from federation.updates import (
    SiteUpdate,
    has_code,
    is_dice,
    outliers,
    read_update,
    weighted_mean,
)
from federation.variates import corrections, path_length, variates_after
from federation.weighting import site_weights
from segfed.errors import BudgetError, FederationError
from segfed.protocol import AgentErrorCode, Manifest, RoundRecord, Stage
from segfed.settings import Settings

logger = logging.getLogger(__name__)


class CheckedRounds:
    """Rounds that count only replies which were checked.

    A reply that is missing, late, damaged, of another network or impossible is dropped for its
    round and named with the reason in the round's record; the site is asked again in the next.
    """

    def __init__(
        self,
        grid: Grid,
        manifest: Manifest,
        *,
        site_names: Mapping[int, str],
        spool: Path,
        clock: Clock | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            grid: Flower's connection to the sites' nodes.
            manifest: The study.
            site_names: The server's own table of node id and site.
            spool: Folder for the updates of a round; emptied before and deleted after it.
            clock: Measures rounds and deadlines.
        """
        self._manifest = manifest
        # A masked sum needs as many sites as its threshold: fewer are neither enough nor a quorum.
        fewest = max(manifest.federation.minimum_sites, manifest.privacy.threshold or 0)
        self._rules = manifest.federation.model_copy(update={"minimum_sites": fewest})
        self._sites = sorted(site_names.values())
        self._spool = spool
        self._clock = clock or Clock()
        self._attendance = Attendance(
            grid, site_names=site_names, rules=self._rules, clock=self._clock
        )
        self._scored_by: frozenset[str] = frozenset()
        """Sites that scored the model of the round before, and so have it."""

    def run(
        self,
        round_number: int,
        model: GlobalModel,
        earlier: Sequence[RoundRecord] = (),
        *,
        server_head: str = "",
    ) -> tuple[GlobalModel, RoundRecord]:
        """The next global model, and what the round brought.

        Args:
            round_number: Counted from 1 over the whole study.
            model: What the round before left.
            earlier: The records of the rounds before.
            server_head: Head of the record of the rounds before; every site is told.

        Raises:
            FederationError: If too few sites sent an update that may count.
            BudgetError: The same, where sites refused because their privacy budget is spent.
        """
        started = self._clock.now()
        notes = RoundNotes(self._sites, server_head=server_head)
        if self._manifest.privacy.secure_aggregation:
            updates, mean = self._combine_masked(round_number, model, notes)
        else:
            updates, mean, memory = self._combine_openly(round_number, model, notes, earlier)
            model = GlobalModel(model.weights, memory)
        model = step(model, mean, rules=self._rules, round_number=round_number)
        self._validate(round_number, model.weights, notes)
        return model, RoundRecord(
            round=round_number,
            loss=weighted_mean((u.metrics.get("loss"), u.count(self._rules)) for u in updates),
            validation_dice=notes.mean_dice(),
            sites=notes.sites,
            seconds=self._clock.now() - started,
            dropped=notes.dropped,
            suspects=notes.suspects,
            audit_heads=dict(sorted(notes.audit_heads.items())),
        )

    def _combine_openly(
        self,
        round_number: int,
        model: GlobalModel,
        notes: RoundNotes,
        earlier: Sequence[RoundRecord],
    ) -> tuple[list[SiteUpdate], Weights, Weights]:
        """The updates that count, the model that they make together, and the server's memory."""
        spool = Spool(self._spool, model=model.weights)
        try:
            updates = self._train(round_number, model, notes, spool)
            self._demand_quorum(round_number, updates, notes)
            comparison = compare(
                spool, model=model.weights, sites=[update.site for update in updates]
            )
            updates = self._judge(updates, comparison, notes)
            self._demand_quorum(round_number, updates, notes)
            counts = site_weights(updates, rules=self._rules, earlier=earlier)
            mean = aggregate(
                spool,
                model=model.weights,
                counts=counts,
                rules=self._rules,
                comparison=comparison.of(counts),
            )
            memory = model.memory
            if self._rules.algorithm == "scaffold":
                paths = {
                    update.site: path_length(
                        self._manifest, round_number, steps=int(update.metrics["steps"])
                    )
                    for update in updates
                }
                memory = variates_after(model, spool, weights=counts, paths=paths)
            return updates, mean, memory
        finally:
            spool.clear()

    def _combine_masked(
        self, round_number: int, model: GlobalModel, notes: RoundNotes
    ) -> tuple[list[SiteUpdate], Weights]:
        """The same by secure aggregation: no update is ever here by itself."""
        updates = self._train(round_number, model, notes, None)
        self._demand_quorum(round_number, updates, notes)

        def ask(stage: Stage, bodies: Mapping[str, Settings]) -> Iterator[tuple[str, Message]]:
            requests = self._requests(round_number, notes).stage(stage, bodies)
            notes.present = set()
            for site, reply in self._attendance.exchange(
                requests, enough=lambda: len(notes.present) >= self._rules.minimum_sites
            ):
                notes.answered(site, reply)
                yield site, reply
            notes.drop_silent(requests, stage)

        secure = SecureSum(ask, notes.drop, self._manifest, round_number)
        counts = {update.site: update.count(self._rules) for update in updates}
        mean, survivors = secure.mean(model.weights, counts)
        return [update for update in updates if update.site in survivors], mean

    def _train(
        self, round_number: int, model: GlobalModel, notes: RoundNotes, spool: Spool | None
    ) -> list[SiteUpdate]:
        """The updates that count, by site; their weights are in the spool, if there is one.

        Sites that scored this model are asked by its hash alone. One that no longer has it says so,
        and is sent the model once the others are done.
        """
        updates: dict[str, SiteUpdate] = {}
        without = self._ask_to_train(
            round_number, model, notes, spool, updates, sites=self._sites, held_by=self._scored_by
        )
        if without:
            notes.present -= without
            self._ask_to_train(round_number, model, notes, spool, updates, sites=without)
        dropped = outliers(updates.values(), max_ratio=self._rules.max_norm_ratio)
        for site, reason in dropped.items():
            notes.drop(site, f"train: {reason}")
        counting = [updates[site] for site in sorted(updates.keys() - dropped.keys())]
        for update in counting:
            notes.sites[update.site] |= {
                "n_cases": float(update.n_cases),
                "steps": update.metrics.get("steps"),
                "loss": update.metrics.get("loss"),
                "seconds": update.metrics.get("seconds"),
                "update_norm": None if spool is None else update.norm,
            }
            if "epsilon" in update.metrics:
                notes.sites[update.site]["epsilon"] = update.metrics["epsilon"]
        return counting

    def _ask_to_train(
        self,
        round_number: int,
        model: GlobalModel,
        notes: RoundNotes,
        spool: Spool | None,
        updates: dict[str, SiteUpdate],
        *,
        sites: Collection[str],
        held_by: Collection[str] = (),
    ) -> set[str]:
        """Add the updates of some sites; returns those that lack the model they were to have."""
        extras = corrections(model, sites) if self._rules.algorithm == "scaffold" else {}
        requests = self._requests(round_number, notes).train(
            model.weights, sites, held_by=held_by, corrections=extras
        )
        without: set[str] = set()
        replies = self._attendance.exchange(
            requests,
            enough=lambda: len(updates) + len(without) >= self._rules.minimum_sites,
        )
        for site, reply in replies:
            notes.answered(site, reply)
            try:
                update, weights = read_update(
                    reply,
                    site=site,
                    manifest=self._manifest,
                    model=None if spool is None else model.weights,
                    is_masked=spool is None,
                )
            except FederationError as error:
                if site in held_by and has_code(error, AgentErrorCode.MODEL_NOT_HELD):
                    without.add(site)
                    continue
                notes.drop(site, f"train: {error}")
                if has_code(error, AgentErrorCode.BUDGET_SPENT):
                    notes.out_of_budget.add(site)
                continue
            if spool is not None:
                spool.add(site, weights)
            updates[site] = update
        notes.drop_silent(requests, "train")
        return without

    def _judge(
        self, updates: list[SiteUpdate], comparison: Comparison, notes: RoundNotes
    ) -> list[SiteUpdate]:
        """Note how the updates lie to each other; returns those that still count."""
        for site, scores in outlier_scores(comparison).items():
            notes.sites[site] |= scores
        steps = {update.site: update.metrics["steps"] for update in updates}
        notes.suspects = suspects(
            comparison, steps=steps, steps_weigh=self._rules.weighting == "steps"
        )
        if self._rules.suspects == "report":
            return updates
        for site, reason in notes.suspects.items():
            notes.drop(site, f"train: {reason}")
        return [update for update in updates if update.site not in notes.suspects]

    def _validate(self, round_number: int, model: Weights, notes: RoundNotes) -> None:
        """Note how the new model does at each site that answered the request to train.

        A site that is still training would only cost another deadline.
        """
        requests = self._requests(round_number, notes).validate(model, notes.present)
        notes.present, scored_by = set(), set()
        for name, reply in self._attendance.exchange(requests, enough=lambda: True):
            notes.answered(name, reply)
            try:
                update, _ = read_update(reply, site=name, manifest=self._manifest, model=None)
            except FederationError as error:
                notes.drop(name, f"validate: {error}")
                continue
            scored_by.add(name)
            site = notes.sites[name]
            site["n_validation_cases"] = float(update.n_cases)
            site |= {key: value for key, value in update.metrics.items() if is_dice(key)}
            seconds = update.metrics.get("seconds")
            if site["seconds"] is not None and seconds is not None:
                site["seconds"] += seconds
        notes.drop_silent(requests, "validate")
        self._scored_by = frozenset(scored_by)

    def _requests(self, round_number: int, notes: RoundNotes) -> RoundRequests:
        """What makes the messages of a round."""
        return RoundRequests(self._attendance, notes, self._manifest.sha256, round_number)

    def _demand_quorum(
        self, round_number: int, updates: Collection[SiteUpdate], notes: RoundNotes
    ) -> None:
        """Refuse to go on from the updates of too few sites."""
        if len(updates) >= self._rules.minimum_sites:
            return
        reasons = "; ".join(f"{site}: {why}" for site, why in sorted(notes.dropped.items()))
        if notes.out_of_budget:
            raise BudgetError(
                f"Round {round_number} was not trained: the privacy budget is spent at "
                f"{', '.join(sorted(notes.out_of_budget))}, and {len(updates)} usable updates are "
                f"left, expected at least {self._rules.minimum_sites}. The rounds before it are "
                "what the budget paid for."
            )
        raise FederationError(
            f"Round {round_number} brought {len(updates)} usable updates from {len(self._sites)} "
            f"sites, expected at least {self._rules.minimum_sites}. Dropped: {reasons}. The reason "
            "in full stands in the log of each site; correct it there and run again: finished "
            "rounds are kept."
        )
