"""The exchanges of a round: what is asked of the sites, and what of their replies counts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Message

from federation.messages import Weights
from federation.requests import RoundRequests
from federation.server_optimizer import GlobalModel
from federation.spool import Spool
from federation.updates import SiteUpdate, has_code, outliers, read_update
from federation.variates import corrections
from segfed.errors import FederationError
from segfed.protocol import AgentErrorCode, Manifest, Stage
from segfed.rules import FederationRules
from segfed.settings import Settings


@dataclass(frozen=True)
class RoundExchanges:
    """Asks the sites in one round; whoever is dropped is named in the notes with the reason."""

    requests: RoundRequests
    manifest: Manifest
    rules: FederationRules
    """The study's, with the quorum of the round."""

    def train(
        self,
        model: GlobalModel,
        spool: Spool | None,
        *,
        sites: Collection[str],
        held_by: Collection[str],
    ) -> list[SiteUpdate]:
        """The updates that count, by site.

        Sites that scored this model are asked by its hash alone. One that no longer has it says so,
        and is sent the model once the others are done.

        Args:
            model: The global model.
            spool: Where their weights go; None where they follow under masks.
            sites: Who is asked.
            held_by: Those of them that scored this model.
        """
        updates: dict[str, SiteUpdate] = {}
        without = self._ask_to_train(model, spool, updates, sites=sites, held_by=held_by)
        if without:
            self.requests.notes.present -= without
            self._ask_to_train(model, spool, updates, sites=without, held_by=())
        dropped = outliers(updates.values(), max_ratio=self.rules.max_norm_ratio)
        for site, reason in dropped.items():
            self.requests.notes.drop(site, f"train: {reason}")
        counting = [updates[site] for site in sorted(updates.keys() - dropped.keys())]
        for update in counting:
            self.requests.notes.trained(update, norm=None if spool is None else update.norm)
        return counting

    def stage(self, stage: Stage, bodies: Mapping[str, Settings]) -> Iterator[tuple[str, Message]]:
        """The replies of a stage of secure aggregation as they come, each with its site."""
        requests, notes = self.requests.stage(stage, bodies), self.requests.notes
        notes.present = set()
        for site, reply in self.requests.attendance.exchange(
            requests, enough=lambda: len(notes.present) >= self.rules.minimum_sites
        ):
            notes.answered(site, reply)
            yield site, reply
        notes.drop_silent(requests, stage)

    def validate(self, model: Weights) -> frozenset[str]:
        """Note how the new model does at each site that answered last; returns who scored it.

        A site that is still training would only cost another deadline.
        """
        notes = self.requests.notes
        scored_by: set[str] = set()
        requests = self.requests.validate(model, notes.present)
        notes.present = set()
        for site, reply in self.requests.attendance.exchange(requests, enough=lambda: True):
            notes.answered(site, reply)
            try:
                update, _ = read_update(reply, site=site, manifest=self.manifest, model=None)
            except FederationError as error:
                notes.drop(site, f"validate: {error}")
                continue
            scored_by.add(site)
            notes.scored(update)
        notes.drop_silent(requests, "validate")
        return frozenset(scored_by)

    def _ask_to_train(
        self,
        model: GlobalModel,
        spool: Spool | None,
        updates: dict[str, SiteUpdate],
        *,
        sites: Collection[str],
        held_by: Collection[str],
    ) -> set[str]:
        """Add the updates of some sites; returns those that lack the model they were to have."""
        notes = self.requests.notes
        without: set[str] = set()
        requests = self.requests.train(
            model.weights,
            sites,
            held_by=held_by,
            corrections=corrections(model, sites) if self.rules.algorithm == "scaffold" else {},
        )
        replies = self.requests.attendance.exchange(
            requests, enough=lambda: len(updates) + len(without) >= self.rules.minimum_sites
        )
        for site, reply in replies:
            notes.answered(site, reply)
            try:
                update, weights = read_update(
                    reply,
                    site=site,
                    manifest=self.manifest,
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
