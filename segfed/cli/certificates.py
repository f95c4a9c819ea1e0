"""Keys and certificates of a federation: its authority, its server, and the sites' nodes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from segfed.errors import ConfigError
from segfed.files import write_private

# The server's clock may be ahead of a site's.
_CLOCK_SKEW = timedelta(hours=1)
_TEN_YEARS = timedelta(days=3650)


@dataclass(frozen=True)
class Authority:
    """Who vouches for the server."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def make_node_keys(private: Path, public: Path) -> None:
    """Make a node's key pair, in the form that Flower reads.

    Args:
        private: Where the private key goes, readable by its owner alone.
        public: Where the public key goes.

    Raises:
        ConfigError: If there is a private key already.
    """
    if private.exists():
        raise ConfigError(
            f"{private} is there already, expected no key yet: the server would no longer know "
            f"this site. To change keys, remove it, run this again and send {public.name} anew."
        )
    key = ec.generate_private_key(ec.SECP384R1())
    write_private(private, _as_bytes(key, PrivateFormat.OpenSSH))
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    public.write_bytes(line + b"\n")


def read_node_public_key(path: Path) -> bytes:
    """The public key of a node, as one line in the form of OpenSSH.

    Raises:
        ConfigError: If the file holds anything else.
    """
    try:
        content = path.read_bytes()
        key = load_ssh_public_key(content)
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"{path} cannot be read as a site's public key ({error}); expected the file "
            "node.pub that `segfed federate keys SITE` makes. Ask the site for it again."
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp384r1":
        raise ConfigError(
            f"{path} holds a key of another kind than expected, which is ECDSA on P-384. Ask the "
            "site to make one with `segfed federate keys SITE`."
        )
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"


def node_key_pem(path: Path) -> bytes:
    """The public key of a node in a kit, in the form in which Flower stores it.

    Raises:
        ConfigError: If the file holds anything else.
    """
    key = load_ssh_public_key(read_node_public_key(path))
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def load_or_make_authority(folder: Path, *, name: str, now: datetime) -> Authority:
    """The authority in a folder, which signs the certificates of all kits made from it.

    Args:
        folder: Holds ``ca.key`` and ``ca.crt``.
        name: What a new one is called.
        now: When it becomes valid, for ten years.

    Raises:
        ConfigError: If what lies there cannot be read.
    """
    key_file, certificate_file = folder / "ca.key", folder / "ca.crt"
    if key_file.exists():
        try:
            key = load_pem_private_key(key_file.read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"The authority in {folder} cannot be read ({error}); expected ca.key and ca.crt. "
                "Restore them from a backup, or remove the folder: then every site needs a new kit."
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{key_file} is no key of an authority made here. Restore it.")
        return Authority(key, certificate)
    key = ec.generate_private_key(ec.SECP384R1())
    subject = _name(f"{name} authority")
    certificate = (
        _builder(subject, subject, key, now=now, until=now + _TEN_YEARS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(_issued_by(key), critical=False)
        .sign(key, hashes.SHA384())
    )
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    write_private(key_file, _as_bytes(key, PrivateFormat.PKCS8))
    certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    return Authority(key, certificate)


def write_server_certificate(
    folder: Path, authority: Authority, *, hosts: Iterable[str], now: datetime, until: datetime
) -> None:
    """A new key and certificate ``server.key`` and ``server.crt``, with the authority's beside.

    Args:
        folder: Where to write.
        authority: Who signs.
        hosts: Names and addresses by which the server is reached, the public one first.
        now: When it becomes valid.
        until: When it no longer is.
    """
    names = tuple(dict.fromkeys(hosts))
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = (
        _builder(_name(names[0]), authority.certificate.subject, key, now=now, until=until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.SubjectAlternativeName([_host(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_issued_by(authority.key), critical=False)
        .sign(authority.key, hashes.SHA384())
    )
    write_private(folder / "server.key", _as_bytes(key, PrivateFormat.PKCS8))
    (folder / "server.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    write_authority(folder, authority)


def write_authority(folder: Path, authority: Authority) -> None:
    """The authority's certificate, by which a caller knows the server."""
    (folder / "ca.crt").write_bytes(authority.certificate.public_bytes(Encoding.PEM))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    now: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    """What all certificates here have."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _issued_by(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    """Says whose signature a certificate bears."""
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _usage(*, signs: bool) -> x509.KeyUsage:
    """A key that signs certificates, or one that proves a server."""
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    # X.509 allows no longer ones.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _host(name: str) -> x509.GeneralName:
    """A name or an address, as certificates tell them apart."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _as_bytes(key: ec.EllipticCurvePrivateKey, form: PrivateFormat) -> bytes:
    return key.private_bytes(Encoding.PEM, form, NoEncryption())
