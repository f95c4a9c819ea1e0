"""The rounds that a site trained of each study: forward only, each from one model.

They lie beside the approvals and not in the cache, which may be emptied at any time.
"""

from __future__ import annotations

from pathlib import Path

from segfed.agent.refusal import RefusedError
from segfed.files import sha256_bytes, write_text
from segfed.protocol import AgentErrorCode, RoundRequest
from segfed.settings import Settings, load_json

ROUNDS_FOLDER = "rounds"


class LastRound(Settings):
    """``rounds/<manifest sha256>.json``: the last round of a study that was trained, or begun."""

    round: int
    weights_sha256: str
    """Of the model that it started from."""


def take_round(site_folder: Path, request: RoundRequest) -> None:
    """Note that a round of a study is trained; the same job again is no other round.

    Without this a server could have a site train a round on one model after the other, and ask
    the labels as often as it likes.

    Args:
        site_folder: The site.
        request: A job to train that passed the site's policy.

    Raises:
        RefusedError: If the round lies before the last one, or is to start from another model.
        ConfigError: If the note on the last round cannot be read.
    """
    path = site_folder / ROUNDS_FOLDER / f"{request.manifest_sha256}.json"
    asked = LastRound(round=request.round, weights_sha256=sha256_bytes(request.weights))
    last = (
        load_json(path, LastRound, kind="note on a study's last round") if path.exists() else None
    )
    if last is not None and asked != last and asked.round <= last.round:
        raise RefusedError(
            AgentErrorCode.UNKNOWN_ROUND,
            f"Round {asked.round} was to be trained from the model {asked.weights_sha256[:12]}, "
            f"after round {last.round} from {last.weights_sha256[:12]}; expected a later round, "
            "or the same job again. Resume the run that was begun; a study that is to be repeated "
            "needs another name or seed, and this site's approval.",
        )
    if asked != last:
        write_text(path, asked.model_dump_json() + "\n")
