"""The hospital's decisions on studies, as they lie in the site's folder."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from segfed.agent.policy import check_study
from segfed.agent.refusal import RefusedError
from segfed.agent.signing import SignedManifest, check_signature, owner_fingerprint
from segfed.errors import ConfigError
from segfed.files import write_text
from segfed.protocol import AgentErrorCode, Manifest
from segfed.settings import Settings, load_json
from segfed.sites import Site

STUDIES_FOLDER = "studies"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Decision(Settings):
    """What the hospital decided on a study; the last decision counts."""

    approved: bool
    by: str
    at: datetime
    signed_by: str
    """The trusted owner who signed the manifest; empty for one that nobody trusted signed."""


class StudyRecord(Settings):
    """``studies/<manifest sha256>.json``: a study and all decisions on it, in order."""

    signed: SignedManifest
    decisions: tuple[Decision, ...]


def decide(
    site: Site, signed: SignedManifest, *, approved: bool, by: str, at: datetime
) -> Decision:
    """Record the hospital's decision on a study.

    Args:
        site: The site.
        signed: The study, as its owner sent it.
        approved: Whether the site takes part. A refusal needs no valid signature.
        by: Who decides.
        at: When.

    Raises:
        RefusedError: If an approved study is not signed by a trusted owner, or breaks the policy
            in ``site.toml``.
        ConfigError: If its plan breaks a rule.
    """
    signed_by = ""
    if approved:
        signed_by = check_signature(signed, site.folder)
        check_study(site, signed.manifest)
    path = _path(site.folder, signed.manifest.sha256)
    earlier = _read(path).decisions if path.exists() else ()
    decision = Decision(approved=approved, by=by, at=at, signed_by=signed_by)
    record = StudyRecord(signed=signed, decisions=(*earlier, decision))
    write_text(path, record.model_dump_json(indent=2) + "\n")
    return decision


def approved_manifest(site_folder: Path, manifest_sha256: str) -> Manifest:
    """The study that a request names, if the hospital approved it and its owner signed it.

    Everything is checked anew: a decision that was taken back, a key that is no longer trusted
    and a file that was changed count at the next request.

    Raises:
        RefusedError: If the study is unapproved, changed or not signed by a trusted owner.
        ConfigError: If a trusted key cannot be read.
    """
    record = _record_of(site_folder, manifest_sha256)
    found = record.signed.manifest.sha256
    if found != manifest_sha256:
        raise _refusal(
            f"The approved manifest {manifest_sha256[:12]} was changed: its hash is {found[:12]}"
        )
    check_signature(record.signed, site_folder)
    last = record.decisions[-1] if record.decisions else None
    if last is None or not last.approved:
        raise _refusal(
            f"The study {record.signed.manifest.study!r} with the manifest {manifest_sha256[:12]} "
            f"was refused{f' by {last.by} on {last.at:%Y-%m-%d}' if last else ''}"
        )
    return record.signed.manifest


def recipient_of(site_folder: Path, manifest_sha256: str) -> str:
    """Who gets what an approved study takes from the site, in words for the audit log.

    The server is not known here by a name of its own: it acts for the owner who signed the study.

    Raises:
        RefusedError: As for `approved_manifest`.
    """
    signed = _record_of(site_folder, manifest_sha256).signed
    owner = check_signature(signed, site_folder)
    key = owner_fingerprint(site_folder, owner)
    return f"study {signed.manifest.study}, server of {owner} (key {key})"


def approved_studies(site_folder: Path) -> tuple[Manifest, ...]:
    """The studies that the site takes part in now, by the order of their hashes.

    Raises:
        ConfigError: If a trusted key cannot be read.
    """
    approved = []
    for path in sorted((site_folder / STUDIES_FOLDER).glob("*.json")):
        try:
            approved.append(approved_manifest(site_folder, path.stem))
        except RefusedError:
            continue
    return tuple(approved)


def _record_of(site_folder: Path, manifest_sha256: str) -> StudyRecord:
    """The record of a study that the hospital decided on."""
    # The name comes from outside and becomes a path.
    if not _SHA256.fullmatch(manifest_sha256):
        raise _refusal(f"A job for the manifest {manifest_sha256[:80]!r} came in, which is no hash")
    path = _path(site_folder, manifest_sha256)
    if not path.exists():
        raise _refusal(
            f"A job for the manifest {manifest_sha256[:12]} came in, on which nobody here decided"
        )
    try:
        return _read(path)
    except ConfigError as error:
        raise _refusal(str(error).rstrip(".")) from error


def _path(site_folder: Path, manifest_sha256: str) -> Path:
    return site_folder / STUDIES_FOLDER / f"{manifest_sha256}.json"


def _read(path: Path) -> StudyRecord:
    return load_json(path, StudyRecord, kind="study record")


def _refusal(found: str) -> RefusedError:
    """The reason, for the site's log."""
    return RefusedError(
        AgentErrorCode.UNKNOWN_STUDY,
        f"{found}; expected a study that this site approved. Look at it with `segfed federate "
        "approve SITE MANIFEST`.",
    )
