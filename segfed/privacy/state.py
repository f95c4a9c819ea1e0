"""What a site remembers of a session of secure aggregation, between messages and restarts."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from segfed.files import replacing
from segfed.privacy.masks import Secrets
from segfed.privacy.stages import KeyList, ShareReply, UnmaskReply
from segfed.settings import Settings


class SessionState(Settings):
    """One session, with what an earlier one of the same round gave away."""

    round: int
    update_sha256: str
    released: tuple[str, ...] = ()
    """The sites whose sum the server can read for this round; nobody can take that back."""

    session: str = ""
    secrets: Secrets | None = None
    """None once they were used up."""

    keys: KeyList = Field(default_factory=dict)
    share_request: str = ""
    """Hash of the request that was answered; another one is refused."""

    share_reply: ShareReply | None = None
    mask_request: str = ""
    shares: dict[str, str] = Field(default_factory=dict)
    """By the site whose secrets they belong to, this one included."""

    unmask_request: str = ""
    unmask_reply: UnmaskReply | None = None


def read_state(path: Path) -> SessionState | None:
    """The last session; None where there was none."""
    return SessionState.model_validate_json(path.read_bytes()) if path.exists() else None


def write_state(path: Path, state: SessionState) -> None:
    """Put a session in place of the one before, in a file that only its owner may read."""
    with replacing(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(state.model_dump_json())
