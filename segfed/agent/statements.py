"""What a site or the server holds of a study's history, signed, for the other one to keep.

The heads that travel with messages show each side that both hold one history. Signed, they show it
to anybody else: a statement lists the heads of one study as its maker holds them, and who has the
maker's public key can check it against the other side's own records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from segfed.agent.audit import AuditEntry
from segfed.errors import ConfigError, LedgerError
from segfed.files import sha256_json
from segfed.protocol import record_heads
from segfed.run_files import read_rounds, read_state
from segfed.settings import Settings, load_json

# What is signed says what it is for: the same keys sign manifests, and let nodes in.
_PURPOSE = b"segfed statement of a shared history 1\n"
_ECDSA = ec.ECDSA(hashes.SHA384())


class SeenHead(Settings):
    """A message of a site, as one side knows of it."""

    round: int
    site: str
    site_head: str
    """Head of the site's audit log after this message."""

    server_head: str | None
    """Head of the server's record before the round; None where a request stated none."""


class Statement(Settings):
    """The heads of one study, as a site or the server holds them."""

    by: Literal["site", "server"]
    manifest_sha256: str
    made_at: datetime
    heads: tuple[SeenHead, ...]
    """A site's own messages, every one; at the server the last of each site and round."""


class SignedStatement(Settings):
    """A statement with its maker's signature."""

    statement: Statement
    signature: str
    """Over the statement's hash, in hexadecimal: Ed25519, or ECDSA with SHA-384."""


def site_statement(
    entries: Sequence[AuditEntry], *, site: str, manifest_sha256: str, now: datetime
) -> Statement:
    """What a site's audit log holds of a study; the messages of its other studies are left out.

    Args:
        entries: The log, whose own chain is whole.
        site: The site's name at the server.
        manifest_sha256: The study's, or the beginning of it.
        now: When the statement is made.

    Raises:
        LedgerError: If the log has no message of such a study, or of several.
    """
    found = {e.manifest_sha256 for e in entries if e.manifest_sha256.startswith(manifest_sha256)}
    if len(found) != 1:
        raise LedgerError(
            f"The audit log of site {site} has messages of {len(found)} studies whose manifest "
            f"begins with {manifest_sha256!r}, expected one. `segfed audit show` lists them; name "
            "one with --study."
        )
    (sha256,) = found
    return Statement(
        by="site",
        manifest_sha256=sha256,
        made_at=now,
        heads=tuple(
            SeenHead(round=e.round, site=site, site_head=e.hash, server_head=e.server_head)
            for e in entries
            if e.manifest_sha256 == sha256
        ),
    )


def server_statement(run_folder: Path, *, now: datetime) -> Statement:
    """What a run's record holds of all sites.

    Raises:
        ConfigError: If the folder holds no whole record of a run.
    """
    state = read_state(run_folder)
    records = read_rounds(run_folder, state)
    return Statement(
        by="server",
        manifest_sha256=state.manifest_sha256,
        made_at=now,
        heads=tuple(
            SeenHead(round=record.round, site=site, site_head=head, server_head=before)
            for record, before in zip(records, record_heads(records), strict=False)
            for site, head in record.audit_heads.items()
        ),
    )


def sign_statement(statement: Statement, key_file: Path) -> SignedStatement:
    """A statement signed by a site's node key, or a study owner's key.

    Raises:
        ConfigError: If the file holds no such private key.
    """
    content = _read(key_file)
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in content else load_pem_private_key
    try:
        key = load(content, password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(key_file, f"cannot be read as a private key ({error})") from error
    if isinstance(key, Ed25519PrivateKey):
        signature = key.sign(_signed_bytes(statement))
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(_signed_bytes(statement), _ECDSA)
    else:
        raise _no_key(key_file, f"holds a key of the kind {type(key).__name__}")
    return SignedStatement(statement=statement, signature=signature.hex())


def read_statement(path: Path, key_file: Path) -> Statement:
    """A statement from its file, after a look at whose it is.

    Args:
        path: The signed statement.
        key_file: The public key of the side that is said to have made it.

    Raises:
        ConfigError: If a file is missing or holds something else.
        LedgerError: If the key's owner did not sign this.
    """
    signed = load_json(path, SignedStatement, kind="signed statement")
    content = _read(key_file)
    load = load_ssh_public_key if content.startswith((b"ssh-", b"ecdsa-")) else load_pem_public_key
    try:
        key = load(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(key_file, f"cannot be read as a public key ({error})") from error
    if not isinstance(key, Ed25519PublicKey | ec.EllipticCurvePublicKey):
        raise _no_key(key_file, f"holds a key of the kind {type(key).__name__}")
    if not _is_signed(signed, key):
        raise LedgerError(
            f"{path} is not signed by the owner of {key_file}; expected the signature of who made "
            "it. Ask for the statement again, or for the right public key."
        )
    return signed.statement


def compare_statements(one: Statement, other: Statement) -> int:
    """Rounds on which a site and the server agree, in both directions.

    Rounds after the last one of the older statement are left out.

    Raises:
        LedgerError: If they are not a site's and the server's of one study, share no round, or
            contradict each other; names every round.
    """
    server, site = sorted((one, other), key=lambda statement: statement.by)
    if (server.by, site.by) != ("server", "site") or one.manifest_sha256 != other.manifest_sha256:
        raise LedgerError(
            f"Found statements by a {one.by} on study {one.manifest_sha256[:12]} and by a "
            f"{other.by} on study {other.manifest_sha256[:12]}; expected one of a site and one of "
            "the server on the same study. Take two that belong together."
        )
    name = site.heads[0].site if site.heads else "without a head"
    last = min(max((head.round for head in by.heads), default=0) for by in (server, site))
    confirmed = {head.round for head in server.heads if head.site == name and head.round <= last}
    if not confirmed:
        raise LedgerError(
            f"The statements of server and site {name} share no round of study "
            f"{one.manifest_sha256[:12]}, expected some. Compare statements made after a round "
            "that the site took part in, and the site's name at the server."
        )
    if problems := list(_contradictions(server, site, name=name, last=last)):
        raise LedgerError(
            f"Site {name} and the server state different histories of study "
            f"{one.manifest_sha256[:12]}: {'; '.join(problems)}. One of the two changed its "
            "records, or made its statement in the middle of a round: compare statements made "
            "after it."
        )
    return len(confirmed)


def _contradictions(server: Statement, site: Statement, *, name: str, last: int) -> Iterator[str]:
    """One phrase for each head up to a round that the other side does not state."""
    at_site = {(head.round, head.site_head) for head in site.heads}
    for head in server.heads:
        is_known = (head.round, head.site_head) in at_site
        if head.site == name and head.round <= last and not is_known:
            yield f"the site lacks the message of round {head.round} with {head.site_head[:12]}"
    before = {head.round: head.server_head for head in server.heads}
    noted = {(head.round, head.server_head) for head in site.heads if head.round in before}
    for number, found in sorted((number, found) for number, found in noted if found is not None):
        if number <= last and before[number] != found:
            yield f"the record before round {number} had the head {found[:12]} when the site saw it"


def _is_signed(signed: SignedStatement, key: Ed25519PublicKey | ec.EllipticCurvePublicKey) -> bool:
    """Whether a key's owner made the signature."""
    data = _signed_bytes(signed.statement)
    try:
        signature = bytes.fromhex(signed.signature)
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, data)
        else:
            key.verify(signature, data, _ECDSA)
    except (InvalidSignature, ValueError):
        return False
    return True


def _signed_bytes(statement: Statement) -> bytes:
    return _PURPOSE + sha256_json(statement.model_dump(mode="json")).encode()


def _read(key_file: Path) -> bytes:
    """A key file's content."""
    try:
        return key_file.read_bytes()
    except OSError as error:
        raise _no_key(key_file, f"cannot be read ({error.strerror})") from error


def _no_key(key_file: Path, found: str) -> ConfigError:
    """What to say of a file that holds no key for this."""
    return ConfigError(
        f"{key_file} {found}; expected a site's node key or a study owner's key, without a "
        "password: the private one to sign, the public one to check. Give that one with --key."
    )
