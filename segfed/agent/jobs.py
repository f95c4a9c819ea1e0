"""The last finished jobs of a study at a site, so that a retry repeats nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segfed.files import sha256_bytes, write_bytes, write_json
from segfed.protocol import RoundReply, RoundRequest


@dataclass(frozen=True)
class StoredTraining:
    """A finished training of a round."""

    reply: RoundReply
    base_sha256: str
    """Of the model that it started from."""


def stored_reply(folder: Path, request: RoundRequest) -> RoundReply | None:
    """The reply to an earlier request for the same job; None if it is not there, or not whole.

    The same job means: same round, same verb, same starting weights. The study and the labels
    are the folder's. Only the last job of each verb is kept.
    """
    record = _read(folder / f"{request.verb}.json")
    if record is None or record["request"] != _key(request):
        return None
    return _whole(record, folder / f"{_stem(request)}.safetensors")


def stored_training(folder: Path, round_number: int) -> StoredTraining | None:
    """What the site's last training made, if that was of a round; None if it was not."""
    record = _read(folder / "train.json")
    if record is None or record["request"]["round"] != round_number:
        return None
    reply = _whole(record, folder / f"train_{round_number:03d}.safetensors")
    return StoredTraining(reply, record["request"]["weights_sha256"]) if reply else None


def _whole(record: Any, path: Path) -> RoundReply | None:
    """The reply of a record; None if its weights are not what was written."""
    weights = path.read_bytes() if path.exists() else b""
    if sha256_bytes(weights) != record["weights_sha256"]:
        return None
    return RoundReply(weights=weights, n_cases=record["n_cases"], metrics=record["metrics"])


def store_reply(
    folder: Path,
    request: RoundRequest,
    reply: RoundReply,
    *,
    progress: bytes | None,
    residue: bytes | None = None,
) -> None:
    """Keep a finished job in place of the one before; its JSON is written last and decides.

    Args:
        folder: The study's folder at this site.
        request: The job.
        reply: Its result.
        progress: The trainer after the job, as it writes itself; None if no job can follow.
        residue: What compression took from the reply; None where nothing did.
    """
    stem = _stem(request)
    if reply.weights:
        write_bytes(folder / f"{stem}.safetensors", reply.weights)
    if progress is not None:
        write_bytes(folder / f"{stem}.progress", progress)
    if residue is not None:
        write_bytes(folder / f"{stem}.residue", residue)
    record = {
        "request": _key(request),
        "weights_sha256": sha256_bytes(reply.weights),
        "n_cases": reply.n_cases,
        "metrics": reply.metrics,
    }
    write_json(folder / f"{request.verb}.json", record)
    for path in folder.glob(f"{request.verb}_*"):
        if path.stem != stem:
            path.unlink()


def stored_progress(folder: Path, *, before_round: int) -> bytes | None:
    """The trainer as it was after the last training round, if that came before a round."""
    return _left_by_training(folder, before_round, suffix="progress")


def stored_residue(folder: Path, *, before_round: int) -> bytes | None:
    """What compression took from the last training's update, if that came before a round."""
    return _left_by_training(folder, before_round, suffix="residue")


def _left_by_training(folder: Path, before_round: int, *, suffix: str) -> bytes | None:
    """A file that the last training round left, if that came before a round."""
    record = _read(folder / "train.json")
    if record is None or record["request"]["round"] >= before_round:
        return None
    path = folder / f"train_{record['request']['round']:03d}.{suffix}"
    return path.read_bytes() if path.exists() else None


def _key(request: RoundRequest) -> dict[str, Any]:
    """What makes two requests the same job."""
    return {"round": request.round, "weights_sha256": sha256_bytes(request.weights)}


def _stem(request: RoundRequest) -> str:
    """Name of a job's files, which no later round overwrites."""
    return f"{request.verb}_{request.round:03d}"


def _read(path: Path) -> Any:
    """A file's content; None where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
