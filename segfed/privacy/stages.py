"""What site and server say to each other in the stages of secure aggregation. Light: no torch.

All of it is JSON with hexadecimal strings of fixed lengths, so that nothing else can travel in it;
only the masked update itself is safetensors.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from segfed.files import sha256_json
from segfed.settings import Settings

Hex16 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Hex32 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
SealedShares = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{184}$")]
"""Nonce (12 bytes), two shares of 32 bytes, and the tag (16 bytes)."""


class PublicKeys(Settings):
    """What a site shows of its secrets of one session."""

    encryption: Hex32
    """X25519 public key for the shares that other sites send it."""

    mask: Hex32
    """X25519 public key for the masks that it has in common with each other site."""

    seed_commitment: Hex32
    """Hash of the seed of its own mask, against which a recovered seed is checked."""


KeyList = dict[str, PublicKeys]
"""Public keys by site."""


def key_list_sha256(keys: KeyList) -> str:
    """Names a key list; every share is bound to it, so that all sites must have the same."""
    return sha256_json({site: found.model_dump() for site, found in keys.items()})


class KeyRequest(Settings):
    """Stage 1, ``keys``: begin a session; answered with ``PublicKeys``."""

    session: Hex16


class ShareRequest(Settings):
    """Stage 2, ``shares``: here is everybody's key; answered with ``ShareReply``."""

    session: Hex16
    keys: KeyList


class ShareReply(Settings):
    """One site's secrets in shares, sealed for each other site."""

    shares: dict[str, SealedShares]
    """By the site that may open it."""


class MaskRequest(Settings):
    """Stage 3, ``mask``: these sites take part; answered with the masked update."""

    session: Hex16
    shares: dict[str, SealedShares]
    """For the receiver, by the site that sealed it."""


class UnmaskRequest(Settings):
    """Stage 4, ``unmask``: who came through and who did not; answered with ``UnmaskReply``."""

    session: Hex16
    survivors: tuple[str, ...]
    dropped: tuple[str, ...]


class UnmaskReply(Settings):
    """Shares that take off what does not cancel; of each site one kind or the other."""

    seeds: dict[str, Hex32]
    """Of the own masks of sites that came through."""

    keys: dict[str, Hex32]
    """Of the mask keys of sites that did not."""
