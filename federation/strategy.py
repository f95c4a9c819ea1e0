"""The server's side of a round: ask every site, check every reply, average what may count."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from typing_extensions import override

from federation.messages import (
    Weights,
    content_bytes,
    read_arrays,
    request_message,
    write_arrays,
)
from federation.updates import SiteUpdate, average, is_dice, read_update, weighted_mean
from segfed.errors import FederationError
from segfed.protocol import RoundRecord, Verb

logger = logging.getLogger(__name__)

MINIMUM_SITES = 2
"""Updates that a round needs: the average of one site is that site's model."""


class CheckedAveraging(Strategy):
    """Federated averaging that counts only replies it has checked, weighted by cases.

    A reply that is missing, damaged, of another network or impossible is dropped for its round
    and named with the reason in the round's record; the site is asked again in the next.
    """

    def __init__(
        self,
        *,
        site_names: Mapping[int, str],
        manifest_sha256: str,
        structures: Collection[str] = (),
        rounds_done: int = 0,
        minimum_sites: int = MINIMUM_SITES,
    ) -> None:
        """Nothing is sent yet.

        Args:
            site_names: The server's own table of node id and site.
            manifest_sha256: Hash of the study's manifest.
            structures: Names of the study's structures, of which sites may state a Dice.
            rounds_done: Rounds of an earlier process; Flower counts from 1 in each.
            minimum_sites: Usable updates below which the run stops.
        """
        self._site_names = dict(site_names)
        self._manifest_sha256 = manifest_sha256
        self._structures = frozenset(structures)
        self._rounds_done = rounds_done
        self._minimum_sites = minimum_sites
        self._expected: Weights = {}
        self._started = 0.0
        self._loss: float | None = None
        self._dropped: dict[str, str] = {}
        self._sites: dict[str, dict[str, float | None]] = {}

    @override
    def summary(self) -> None:
        """Flower asks for a summary before the first round."""
        logger.info(
            "Averaging %d sites by cases: %s",
            len(self._site_names),
            ", ".join(sorted(self._site_names.values())),
        )

    @override
    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """One training request for every site."""
        self._started = time.perf_counter()
        self._dropped = {}
        self._sites = {
            name: {"n_cases": None, "loss": None, "seconds": None, "bytes_down": 0, "bytes_up": 0}
            for name in sorted(self._site_names.values())
        }
        self._expected = read_arrays(arrays)
        return self._requests("train", server_round, arrays, grid)

    @override
    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The new global model.

        Raises:
            FederationError: If too few sites sent an update that may count.
        """
        updates = self._accept("train", replies)
        if len(updates) < self._minimum_sites:
            reasons = "; ".join(f"{site}: {why}" for site, why in sorted(self._dropped.items()))
            raise FederationError(
                f"Round {server_round + self._rounds_done} brought {len(updates)} usable updates "
                f"from {len(self._site_names)} sites, expected at least {self._minimum_sites}. "
                f"Dropped: {reasons}. The reason in full stands in the log of each site; correct "
                "it there and run again: finished rounds are kept."
            )
        for update in updates:
            self._sites[update.site] |= {
                "n_cases": float(update.n_cases),
                "loss": update.metrics.get("loss"),
                "seconds": update.metrics.get("seconds"),
            }
        self._loss = weighted_mean((item.metrics.get("loss"), item.n_cases) for item in updates)
        return write_arrays(average(updates)), None

    @override
    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """One request for every site to score the new global model on its validation cases."""
        return self._requests("validate", server_round, arrays, grid)

    @override
    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Keep each site's validation values for the round's record."""
        for update in self._accept("validate", replies):
            site = self._sites[update.site]
            site["n_validation_cases"] = float(update.n_cases)
            site |= {name: value for name, value in update.metrics.items() if is_dice(name)}
            seconds = update.metrics.get("seconds")
            if site["seconds"] is not None and seconds is not None:
                site["seconds"] += seconds
        return None

    def round_record(self, server_round: int) -> RoundRecord:
        """What the round that just ended brought."""
        means = [
            weighted_mean((value, 1) for name, value in site.items() if is_dice(name))
            for site in self._sites.values()
        ]
        return RoundRecord(
            round=server_round + self._rounds_done,
            loss=self._loss,
            validation_dice=weighted_mean((mean, 1) for mean in means),
            sites=self._sites,
            seconds=time.perf_counter() - self._started,
            dropped=self._dropped,
        )

    def _requests(
        self, verb: Verb, server_round: int, arrays: ArrayRecord, grid: Grid
    ) -> list[Message]:
        """One message for each site that is connected, in the order of their names."""
        connected = set(grid.get_node_ids())
        messages = [
            request_message(
                verb,
                arrays,
                manifest_sha256=self._manifest_sha256,
                round_number=server_round + self._rounds_done,
                node_id=node_id,
            )
            for node_id, _ in sorted(self._site_names.items(), key=lambda item: item[1])
            if node_id in connected
        ]
        for message in messages:
            name = self._site_names[message.metadata.dst_node_id]
            self._count("bytes_down", name, message)
        return messages

    def _accept(self, verb: Verb, replies: Iterable[Message]) -> list[SiteUpdate]:
        """The replies that may count; the reason why another does not is kept."""
        accepted: dict[str, SiteUpdate] = {}
        silent = set(self._site_names.values())
        for reply in replies:
            name = self._site_names.get(reply.metadata.src_node_id)
            if name is None or name not in silent:
                logger.warning("A reply of an unknown node, or a second reply, was ignored.")
                continue
            silent.remove(name)
            self._count("bytes_up", name, reply)
            try:
                expected = self._expected if verb == "train" else None
                accepted[name] = read_update(
                    reply, site=name, expected=expected, structures=self._structures
                )
            except FederationError as error:
                self._drop(name, f"{verb}: {error}")
        for name in sorted(silent):
            self._drop(name, f"{verb}: no reply")
        return [accepted[name] for name in sorted(accepted)]

    def _drop(self, name: str, reason: str) -> None:
        """Name a site whose reply does not count."""
        logger.warning("Site %s was dropped: %s", name, reason)
        earlier = self._dropped.get(name)
        self._dropped[name] = f"{earlier}; {reason}" if earlier else reason

    def _count(
        self, direction: Literal["bytes_down", "bytes_up"], name: str, message: Message
    ) -> None:
        """Add a message's size to a site's traffic."""
        if message.has_content():
            site = self._sites[name]
            site[direction] = (site[direction] or 0) + content_bytes(message.content)
