"""A site's scans as keyed hashes, to be compared with those of other sites without any image."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt

from segfed.errors import ConfigError
from segfed.files import write_json, write_private
from segfed.protocol import Split
from segfed.settings import Settings, load_json
from segfed.sites.cases import Case, naming_case
from segfed.sites.scan_marks import VERSION, scan_marks
from segfed.sites.site import SITE_FILE, Site
from segfed.volumes import read_image

KEY_BYTES = 32
_MARK_DIGITS = 12
"""Hexadecimal digits of a keyed mark: 48 bits, so that no two marks share one by chance."""

Keyed = Annotated[str, Field(pattern=r"^[0-9a-f]+$")]


class KeyedScan(Settings):
    """One scan as other sites may see it."""

    number: PositiveInt
    """The case's line in the site's ``cases.csv``, by which the site alone finds it."""

    split: Split
    image: Keyed
    """Of the image's hash: equal for equal files."""

    marks: tuple[Keyed, ...]
    """Of the scan's marks, in their own order; few for a scan without structure."""


class KeyedScans(Settings):
    """Every scan of a site, under a key that the sites share: what a site hands over."""

    version: int = VERSION
    site: str
    task: str
    key_id: Keyed
    """Tells files under different keys apart, which could not be compared."""

    scans: tuple[KeyedScan, ...]


def marks_of(site: Site, case: Case) -> frozenset[int]:
    """The marks of a case's display channel; kept in the site's cache.

    Raises:
        VolumeError: If the image cannot be read.
    """
    path = site.folder / "cache" / "scan_marks" / f"{case.image_sha256}-{VERSION}.json"
    if path.exists():
        return frozenset(json.loads(path.read_text(encoding="utf-8")))
    with naming_case(case.case_id):
        marks = scan_marks(read_image(case.channels[site.task.display_channel]))
    write_json(path, sorted(marks))
    return marks


def keyed_scans(
    site: Site, key: bytes, *, on_case: Callable[[int, int], None] | None = None
) -> KeyedScans:
    """Every scan of a site under a key.

    Args:
        site: The site, as loaded.
        key: At least ``KEY_BYTES`` random bytes, the same at every site.
        on_case: Called after each case with the number done and the number in all.

    Raises:
        VolumeError: If an image cannot be read.
    """
    scans = []
    for number, case in enumerate(site.cases, start=1):
        marks = [_keyed(key, f"{VERSION}/{mark}")[:_MARK_DIGITS] for mark in marks_of(site, case)]
        scans.append(
            KeyedScan(
                number=number,
                split=case.split,
                image=_keyed(key, case.image_sha256),
                marks=tuple(sorted(marks)),
            )
        )
        if on_case:
            on_case(number, len(site.cases))
    return KeyedScans(
        site=site.name, task=site.task.name, key_id=_keyed(key, "key")[:16], scans=tuple(scans)
    )


def require_sharing(site: Site) -> None:
    """Refuse to hand over anything of single scans that the site's policy does not allow.

    Raises:
        ConfigError: If ``scan_marks`` is not set in the site's policy.
    """
    if not site.settings.policy.scan_marks:
        raise ConfigError(
            f"The policy of site {site.name} does not let keyed marks of single scans leave. Set "
            f"scan_marks = true under [policy] in {site.folder / SITE_FILE} if the hospital "
            "allows it: docs/evaluators.md says what they tell."
        )


def make_key(path: Path) -> bytes:
    """A new key in a new file that only its owner can read.

    Raises:
        ConfigError: If the file is there already.
    """
    if path.exists():
        raise ConfigError(
            f"{path} is there already; expected no file, because scans under an overwritten key "
            "could not be compared any more. Use it with --key, or name another file."
        )
    write_private(path, f"{secrets.token_hex(KEY_BYTES)}\n".encode())
    return read_key(path)


def read_key(path: Path) -> bytes:
    """The key that `make_key` wrote.

    Raises:
        ConfigError: If the file is missing or holds no key.
    """
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        raise ConfigError(
            f"No key at {path}; expected the one that the sites share. One site makes it with "
            "--new-key and hands it to the others, and to nobody else."
        ) from None
    except ValueError:
        key = b""
    if len(key) < KEY_BYTES:
        raise ConfigError(
            f"{path} holds no key; expected {2 * KEY_BYTES} hexadecimal digits. Get the file again."
        )
    return key


def write_keyed_scans(scans: KeyedScans, path: Path) -> None:
    """Write a site's keyed scans as JSON."""
    write_json(path, scans.model_dump(mode="json"))


def read_keyed_scans(path: Path) -> KeyedScans:
    """The keyed scans in a file.

    Raises:
        ConfigError: If the file is missing or no such file.
    """
    return load_json(path, KeyedScans, kind="file of keyed scans")


def _keyed(key: bytes, text: str) -> str:
    """HMAC-SHA-256 in hexadecimal digits."""
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
