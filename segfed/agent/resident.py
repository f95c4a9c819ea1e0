"""The agent that stays: it answers for whichever study the hospital has approved."""

from __future__ import annotations

from pathlib import Path

import torch

from segfed.agent.agent import Agent
from segfed.agent.approval import approved_manifest, recipient_of
from segfed.agent.audit import Clock, utc_now
from segfed.agent.departures import Departures
from segfed.agent.held_model import whole_request
from segfed.agent.policy import check_request
from segfed.agent.rounds import take_round
from segfed.agent.scorings import take_scoring
from segfed.protocol import Manifest, RoundReply, RoundRequest
from segfed.sites import Site, load_site


class ResidentAgent:
    """A site's agent for many studies; implements ``segfed.protocol.AgentConnection``.

    Approval and site are read anew for every job, so that the hospital's decisions count at
    once. Cache and network stay warm while study and site are the same. The rounds of a study are
    trained in order, each from one model, and few models are scored in each.
    """

    def __init__(self, site_folder: Path, *, device: torch.device, clock: Clock = utc_now) -> None:
        """Take the site's folder; nothing is read yet.

        Args:
            site_folder: The site.
            device: Where to train.
            clock: Dates the lines of the audit log.
        """
        self._folder = site_folder
        self._device = device
        self._clock = clock
        self._departures = Departures(site_folder, clock)
        self._warm: tuple[Site, Manifest, Agent] | None = None

    def answer(self, request: RoundRequest) -> RoundReply:
        """Run a job of an approved study, or return its stored reply.

        Raises:
            AgentError: With a code and nothing else, whatever went wrong.
        """
        try:
            site, manifest, agent = self._study(request.manifest_sha256)
            check_request(site, manifest, request)
            request = whole_request(self._folder, request)
            if request.verb == "train":
                take_round(self._folder, request)
            elif request.verb == "validate":
                take_scoring(self._folder, request)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text must not leave
            raise self._departures.failure(request, error) from None
        return agent.answer(request)

    def _study(self, manifest_sha256: str) -> tuple[Site, Manifest, Agent]:
        """A study and its agent, made anew where study or site are other than before."""
        manifest = approved_manifest(self._folder, manifest_sha256)
        site = load_site(self._folder)
        if self._warm is None or self._warm[:2] != (site, manifest):
            self._warm = None  # its network's memory is needed for the next
            agent = Agent(
                site,
                manifest,
                device=self._device,
                clock=self._clock,
                recipient=recipient_of(self._folder, manifest_sha256),
            )
            self._warm = (site, manifest, agent)
        return self._warm
