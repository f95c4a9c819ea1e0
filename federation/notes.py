"""What happened to each site in one round."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Literal

from flwr.app import Message

from federation.messages import content_bytes, read_audit_head
from federation.updates import is_dice, weighted_mean
from segfed.protocol import Verb

logger = logging.getLogger(__name__)


class RoundNotes:
    """One round's figures of each site, and who was dropped."""

    def __init__(self, sites: Collection[str], *, server_head: str = "") -> None:
        self.server_head = server_head
        """Head of the server's record before this round; goes down with every request."""
        self.audit_heads: dict[str, str] = {}
        """Head of each site's audit log, as its last reply stated it."""
        self.sites: dict[str, dict[str, float | None]] = {
            site: {
                "n_cases": None,
                "steps": None,
                "loss": None,
                "seconds": None,
                "update_norm": None,
                "bytes_down": 0,
                "bytes_up": 0,
            }
            for site in sites
        }
        self.dropped: dict[str, str] = {}
        self.out_of_budget: set[str] = set()
        """Sites that did not train because their privacy budget is spent."""
        self.suspects: dict[str, str] = {}
        self.present: set[str] = set()
        """Sites that answered the last request, in whatever way."""

    def answered(self, site: str, reply: Message) -> None:
        """A reply came."""
        self.present.add(site)
        self.count("bytes_up", site, reply)
        head = read_audit_head(reply)
        if head is not None:
            self.audit_heads[site] = head

    def drop_silent(self, asked: Collection[str], verb: Verb) -> None:
        """Name the sites that did not answer."""
        for site in sorted(set(asked) - self.present):
            self.drop(site, f"{verb}: no reply")

    def drop(self, site: str, reason: str) -> None:
        """Name a site whose reply does not count."""
        logger.warning("Site %s was dropped: %s", site, reason)
        earlier = self.dropped.get(site)
        self.dropped[site] = f"{earlier}; {reason}" if earlier else reason

    def count(
        self, direction: Literal["bytes_down", "bytes_up"], name: str, message: Message
    ) -> None:
        """Add a message's size to a site's traffic."""
        if message.has_content():
            site = self.sites[name]
            site[direction] = (site[direction] or 0) + content_bytes(message.content)

    def mean_dice(self) -> float | None:
        """Mean over sites of the mean over structures."""
        means = [
            weighted_mean((value, 1) for name, value in site.items() if is_dice(name))
            for site in self.sites.values()
        ]
        return weighted_mean((mean, 1) for mean in means)
