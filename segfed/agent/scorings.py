"""The models that a site scored in each round of a study: few, and forward only."""

from __future__ import annotations

from pathlib import Path

from segfed.agent.refusal import RefusedError
from segfed.agent.rounds import ROUNDS_FOLDER
from segfed.files import sha256_bytes, write_text
from segfed.protocol import AgentErrorCode, RoundRequest
from segfed.settings import Settings, load_json

MODELS_PER_ROUND = 3
"""The round's own model, and two more: a server that was killed between sum and score may have
summed the updates of other sites when it goes on."""


class ScoredRound(Settings):
    """``rounds/<manifest sha256>.scored.json``: the last round in which a site scored models."""

    round: int
    weights_sha256: tuple[str, ...]
    """Of the models that were scored in it, or begun."""


def take_scoring(site_folder: Path, request: RoundRequest) -> None:
    """Note that a model is scored in a round; the same one again is no other.

    Without this a server could have a site score as many models as it likes, each made to ask
    one more thing of the validation cases.

    Args:
        site_folder: The site.
        request: A job to validate that passed the site's policy.

    Raises:
        RefusedError: If the round lies before the last one that was scored, or has had its models.
        ConfigError: If the note on the last round cannot be read.
    """
    path = site_folder / ROUNDS_FOLDER / f"{request.manifest_sha256}.scored.json"
    asked = sha256_bytes(request.weights)
    none = ScoredRound(round=0, weights_sha256=())
    last = load_json(path, ScoredRound, kind="note on scored models") if path.exists() else none
    scored = last.weights_sha256 if last.round == request.round else ()
    if asked in scored:
        return
    if request.round < last.round or len(scored) >= MODELS_PER_ROUND:
        raise RefusedError(
            AgentErrorCode.UNKNOWN_ROUND,
            f"The model {asked[:12]} was to be scored in round {request.round}, after "
            f"{len(last.weights_sha256)} models in round {last.round}; expected a later round, one "
            f"of these models again, or at most {MODELS_PER_ROUND} in a round. If the server did "
            "not go on with one round over and over, ask its operator what the models are for.",
        )
    note = ScoredRound(round=request.round, weights_sha256=(*scored, asked))
    write_text(path, note.model_dump_json() + "\n")
