"""What the server sends in a round: one message to each site that is asked and connected."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from flwr.app import ArrayRecord, Message
from safetensors.numpy import save

from federation.attendance import Attendance
from federation.messages import (
    Weights,
    pack,
    request_message,
    stage_message,
    write_arrays,
)
from federation.notes import RoundNotes
from segfed.files import sha256_bytes
from segfed.protocol import Stage, Verb
from segfed.settings import Settings


@dataclass(frozen=True)
class RoundRequests:
    """Makes the messages of one round, each time in the order of the sites' names.

    A site that is not connected is named in the notes; there the bytes that go down are counted.
    """

    attendance: Attendance
    notes: RoundNotes
    manifest_sha256: str
    round_number: int

    def train(
        self,
        model: Weights,
        sites: Collection[str],
        *,
        held_by: Collection[str],
        corrections: Mapping[str, Weights],
    ) -> dict[str, Message]:
        """Requests to train.

        Args:
            model: The global model.
            sites: Who is asked.
            held_by: Sites that have the model since they scored it: its hash is enough for them.
            corrections: What else a site gets, if there is something for it.
        """
        content = save(model)
        held_sha256 = sha256_bytes(content) if held_by else ""
        whole = pack(content)

        def message(site: str, node_id: int) -> Message:
            correction = corrections.get(site, {})
            if site in held_by:
                return self._request("train", write_arrays(correction), node_id, held_sha256)
            arrays = write_arrays({**model, **correction}) if correction else whole
            return self._request("train", arrays, node_id)

        return self._addressed("train", sites, message)

    def validate(self, model: Weights, sites: Collection[str]) -> dict[str, Message]:
        """Requests to score a model, which is new to all sites."""
        arrays = write_arrays(model)
        return self._addressed(
            "validate", sites, lambda _site, node_id: self._request("validate", arrays, node_id)
        )

    def stage(self, stage: Stage, bodies: Mapping[str, Settings]) -> dict[str, Message]:
        """Requests of a stage of secure aggregation, by site."""

        def message(site: str, node_id: int) -> Message:
            return stage_message(
                stage,
                bodies[site].model_dump_json().encode(),
                manifest_sha256=self.manifest_sha256,
                round_number=self.round_number,
                node_id=node_id,
                server_head=self.notes.server_head,
            )

        return self._addressed(stage, bodies, message)

    def _request(
        self, verb: Verb, arrays: ArrayRecord, node_id: int, held_sha256: str = ""
    ) -> Message:
        """One site's message with arrays."""
        return request_message(
            verb,
            arrays,
            manifest_sha256=self.manifest_sha256,
            round_number=self.round_number,
            node_id=node_id,
            server_head=self.notes.server_head,
            held_sha256=held_sha256,
        )

    def _addressed(
        self, verb: Verb, sites: Collection[str], message: Callable[[str, int], Message]
    ) -> dict[str, Message]:
        """A message for each of some sites that is connected."""
        nodes = self.attendance.connected()
        for site in sorted(set(sites) - nodes.keys()):
            self.notes.drop(site, f"{verb}: not connected")
        requests = {site: message(site, node) for site, node in nodes.items() if site in sites}
        for site, request in requests.items():
            self.notes.count("bytes_down", site, request)
        return requests
