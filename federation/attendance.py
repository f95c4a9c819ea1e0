"""Who is asked, who is waited for and for how long, and who is late."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from segfed.protocol import AgentErrorCode
from segfed.rules import FederationRules

logger = logging.getLogger(__name__)

# Late by more than this many deadlines, a message is worth neither an answer nor a look.
_LIFE_IN_DEADLINES = 2


@dataclass(frozen=True)
class Clock:
    """Time as the server sees it; tests bring their own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    poll_seconds: float = 0.5
    """Between two looks for replies."""


class Attendance:
    """Sends messages and hands out the replies, and knows whom it is worth waiting for.

    A site that does not answer by the deadline is late: its reply to that message never counts. A
    site that was late in as many exchanges in a row as the study allows is still asked, but
    nobody waits for it, so that a dead site costs one deadline and not one a round. It is waited
    for again once it answers, be it late, or once it connects after having been away.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        site_names: Mapping[int, str],
        rules: FederationRules,
        clock: Clock,
    ) -> None:
        """Nothing is sent yet.

        Args:
            grid: Flower's connection to the sites' nodes.
            site_names: The server's own table of node id and site.
            rules: Quorum, deadline and patience.
            clock: Measures the deadline.
        """
        self._grid = grid
        self._nodes = {site: node for node, site in site_names.items()}
        self._rules = rules
        self._clock = clock
        self._missed = dict.fromkeys(self._nodes, 0)
        self._late: dict[str, tuple[str, float]] = {}

    def connected(self) -> dict[str, int]:
        """Sites that can be asked and their nodes, by name; waits for a quorum to connect."""
        end = self._clock.now() + self._rules.round_deadline_seconds
        while True:
            there = set(self._grid.get_node_ids())
            found = {site: self._nodes[site] for site in sorted(self._nodes)}
            found = {site: node for site, node in found.items() if node in there}
            if len(found) >= self._rules.minimum_sites or self._clock.now() >= end:
                break
            self._clock.sleep(self._clock.poll_seconds)
        for site in self._nodes.keys() - found.keys():
            self._missed[site] = 0  # it costs nothing while it is away, and is welcome back
        return found

    def exchange(
        self, messages: Mapping[str, Message], *, enough: Callable[[], bool]
    ) -> Iterator[tuple[str, Message]]:
        """Replies as they come, each with the site that was asked.

        Ends once every site worth waiting for has answered and there is enough, and at the
        deadline at the latest. One reply is fetched at a time, so that no more than one lies in
        memory.

        Args:
            messages: One for each site.
            enough: Whether the replies handed out so far will do without the absent sites.
        """
        deadline = self._rules.round_deadline_seconds
        end = self._clock.now() + deadline
        for message in messages.values():
            message.metadata.ttl = _LIFE_IN_DEADLINES * deadline
        sent = self._grid.push_messages(list(messages.values()))
        # Flower lists None for a message that it could not store, or nothing at all.
        pending = {key: site for key, site in zip(sent, messages, strict=False) if key}
        while True:
            yield from self._fetch(pending)
            self._look_for_late()
            waited_for = [site for site in pending.values() if self._is_present(site)]
            if not pending or (not waited_for and enough()) or self._clock.now() >= end:
                break
            self._clock.sleep(self._clock.poll_seconds)
        for key, site in pending.items():
            self._missed[site] += 1
            self._late[key] = (site, end + deadline)

    def _fetch(self, pending: dict[str, str]) -> Iterator[tuple[str, Message]]:
        """Replies that have come; their keys are removed from those pending."""
        for key, site in list(pending.items()):
            for reply in self._grid.pull_messages([key]):
                if reply.metadata.src_node_id != self._nodes[site] and not reply.has_error():
                    logger.warning("A reply of another node than %s's was ignored.", site)
                elif pending.pop(key, None) is None:
                    logger.warning("A second reply of site %s was ignored.", site)
                else:
                    self._missed[site] = 0
                    yield site, reply

    def _look_for_late(self) -> None:
        """Take late replies as a sign of life, and forget messages that are too old for one."""
        for key, (site, end) in list(self._late.items()):
            replies = list(self._grid.pull_messages([key]))
            if any(_is_of_a_site(reply) for reply in replies):
                logger.info("Site %s answered late: its reply is ignored.", site)
                self._missed[site] = 0
            # Flower answers for a node that went away, and then forgets the message.
            if replies or self._clock.now() >= end:
                del self._late[key]

    def _is_present(self, site: str) -> bool:
        """Whether a site is worth waiting for."""
        return self._missed[site] < self._rules.missed_rounds


def _is_of_a_site(reply: Message) -> bool:
    """Whether a site sent this, and not Flower in its place."""
    return not reply.has_error() or reply.error.code in set(AgentErrorCode)
