"""A study manifest signed by its owner, and the owners whose keys a site trusts."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from segfed.agent.refusal import RefusedError
from segfed.errors import ConfigError
from segfed.files import sha256_bytes, write_bytes
from segfed.protocol import AgentErrorCode, Manifest
from segfed.settings import Settings, load_json

OWNERS_FOLDER = "study_owners"
# What is signed says what it is for: a signature made for another purpose cannot be passed off.
_PURPOSE = b"segfed study manifest 1\n"
_HOW_TO_MAKE_KEYS = (
    "Give the private key; only if there is none yet, make one with `openssl genpkey -algorithm "
    "ed25519 -out owner.key`, and its public half with "
    "`openssl pkey -in owner.key -pubout -out owner.pub`."
)


class SignedManifest(Settings):
    """What a study's owner sends to every hospital."""

    manifest: Manifest
    signature: str
    """Ed25519 over the manifest's hash, in hexadecimal. Whose it is, the site's keys tell."""


def sign(manifest: Manifest, key_file: Path) -> SignedManifest:
    """A manifest with its owner's signature.

    Args:
        manifest: The study.
        key_file: The owner's private Ed25519 key, as PEM without a password.

    Raises:
        ConfigError: If there is no such key.
    """
    try:
        key = load_pem_private_key(key_file.read_bytes(), password=None)
    except (OSError, TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"{key_file} cannot be read as a private key ({error}); expected Ed25519 in PEM "
            f"without a password. {_HOW_TO_MAKE_KEYS}"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            f"{key_file} holds a key of the kind {type(key).__name__}, expected Ed25519. "
            f"{_HOW_TO_MAKE_KEYS}"
        )
    return SignedManifest(manifest=manifest, signature=key.sign(_signed_bytes(manifest)).hex())


def read_signed(path: Path) -> SignedManifest:
    """A signed manifest from its file.

    Raises:
        ConfigError: If the file is missing or is no signed manifest; every problem is listed.
    """
    return load_json(path, SignedManifest, kind="study that `segfed federate sign` wrote")


def check_signature(signed: SignedManifest, site_folder: Path) -> str:
    """Who signed a manifest: the name that the site gave to the owner's key.

    The site trusts the keys ``study_owners/<name>.pub``, which the hospital puts there.

    Raises:
        RefusedError: If no trusted key made the signature.
        ConfigError: If a trusted key cannot be read.
    """
    owners = _read_owners(site_folder / OWNERS_FOLDER)
    for name, key in owners.items():
        if _is_by(key, signed):
            return name
    raise RefusedError(
        AgentErrorCode.UNKNOWN_STUDY,
        f"The manifest {signed.manifest.sha256[:12]} of study {signed.manifest.study!r} is not as "
        f"a trusted owner signed it; this site trusts {', '.join(owners) or 'nobody'}. If you "
        f"trust who sent it, run `segfed federate trust {site_folder} OWNER.pub` with their public "
        "key; else ask for the manifest again.",
    )


def is_signed_by(signed: SignedManifest, key_file: Path) -> bool:
    """Whether the owner of a public key signed a manifest.

    Raises:
        ConfigError: If the file holds no owner's public key.
    """
    return _is_by(_read_owner(key_file), signed)


def read_owner_key(path: Path) -> bytes:
    """An owner's public key as PEM, after a look at whether it is one.

    Raises:
        ConfigError: If it is not.
    """
    return _read_owner(path).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def owner_fingerprint(site_folder: Path, name: str) -> str:
    """The first 16 digits of the SHA-256 of a trusted owner's raw public key.

    Raises:
        ConfigError: If the file holds no owner's public key.
    """
    key = _read_owner(site_folder / OWNERS_FOLDER / f"{name}.pub")
    return sha256_bytes(key.public_bytes(Encoding.Raw, PublicFormat.Raw))[:16]


def trust(site_folder: Path, key_file: Path, *, name: str) -> Path:
    """Let a site take studies of an owner; returns the file that says so.

    Raises:
        ConfigError: If the file holds no owner's public key, or another one has the name.
    """
    path, key = site_folder / OWNERS_FOLDER / f"{name}.pub", read_owner_key(key_file)
    if path.exists() and read_owner_key(path) != key:
        raise ConfigError(
            f"{path} holds another owner's key than {key_file}, expected a name for each owner. "
            "Choose one with --name, or remove that file if the owner has a new key."
        )
    write_bytes(path, key)
    return path


def _is_by(key: Ed25519PublicKey, signed: SignedManifest) -> bool:
    """Whether a key's owner made the signature."""
    try:
        key.verify(bytes.fromhex(signed.signature), _signed_bytes(signed.manifest))
    except (InvalidSignature, ValueError):
        return False
    return True


def _signed_bytes(manifest: Manifest) -> bytes:
    return _PURPOSE + manifest.sha256.encode()


def _read_owners(folder: Path) -> dict[str, Ed25519PublicKey]:
    """The trusted keys by the name of their file."""
    return {path.stem: _read_owner(path) for path in sorted(folder.glob("*.pub"))}


def _read_owner(path: Path) -> Ed25519PublicKey:
    """The key in a file."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"{path} cannot be read as a public key ({error}); expected Ed25519 in PEM. Give the "
            "file that `openssl pkey -in owner.key -pubout -out owner.pub` makes of the owner's "
            "key, which itself stays with the owner."
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(
            f"{path} holds a key of the kind {type(key).__name__}, expected Ed25519. Ask the "
            "study's owner for that one."
        )
    return key
