"""Keys and certificates, as OpenSSL and OpenSSH understand them."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
)
from cryptography.x509.verification import PolicyBuilder, Store

from segfed.cli.certificates import (
    load_or_make_authority,
    make_node_keys,
    read_node_public_key,
    write_server_certificate,
)
from segfed.errors import ConfigError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=30)


def server_certificate(folder, **changes):
    """The certificate of a server in a folder, made by the authority there."""
    fields = {"hosts": ("seg.example.org", "10.1.2.3"), "now": NOW, "until": LATER} | changes
    authority = load_or_make_authority(folder / "authority", name="trial", now=NOW)
    (folder / "server").mkdir(exist_ok=True)
    write_server_certificate(folder / "server", authority, **fields)
    return x509.load_pem_x509_certificate((folder / "server" / "server.crt").read_bytes())


def verify(folder, certificate, *, subject, at):
    """What a caller does who trusts the authority beside the certificate."""
    authority = x509.load_pem_x509_certificate((folder / "server" / "ca.crt").read_bytes())
    policy = PolicyBuilder().store(Store([authority])).time(at)
    return policy.build_server_verifier(subject).verify(certificate, [])


@pytest.mark.parametrize(
    "subject",
    [x509.DNSName("seg.example.org"), x509.IPAddress(ipaddress.ip_address("10.1.2.3"))],
    ids=str,
)
def test_a_caller_who_trusts_the_authority_believes_the_server(tmp_path, subject):
    certificate = server_certificate(tmp_path)

    chain = verify(tmp_path, certificate, subject=subject, at=NOW)

    assert chain[0] == certificate


@pytest.mark.parametrize(
    ("subject", "at"),
    [("other.example.org", NOW), ("seg.example.org", LATER + timedelta(seconds=1))],
    ids=["another host", "expired"],
)
def test_a_caller_refuses_another_host_and_an_expired_certificate(tmp_path, subject, at):
    certificate = server_certificate(tmp_path)

    with pytest.raises(x509.verification.VerificationError):
        verify(tmp_path, certificate, subject=x509.DNSName(subject), at=at)


def test_a_renewed_certificate_comes_from_the_same_authority_with_a_new_key(tmp_path):
    first = server_certificate(tmp_path)
    again = server_certificate(tmp_path, now=LATER, until=LATER + timedelta(days=30))

    assert first.public_key() != again.public_key()
    assert verify(tmp_path, again, subject=x509.DNSName("seg.example.org"), at=LATER)


def test_a_damaged_authority_is_not_replaced(tmp_path):
    server_certificate(tmp_path)
    (tmp_path / "authority" / "ca.key").write_text("gone")

    with pytest.raises(ConfigError, match=r"cannot be read .* Restore them from a backup"):
        server_certificate(tmp_path)


def test_nobody_else_may_read_a_private_key(tmp_path):
    server_certificate(tmp_path)
    make_node_keys(tmp_path / "node.key", tmp_path / "node.pub")

    for name in ("authority/ca.key", "server/server.key", "node.key"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0


def test_a_node_s_two_keys_belong_together(tmp_path):
    make_node_keys(tmp_path / "node.key", tmp_path / "node.pub")

    private = load_ssh_private_key((tmp_path / "node.key").read_bytes(), password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    assert read_node_public_key(tmp_path / "node.pub") == line + b"\n"


def test_a_node_s_key_is_not_made_anew_by_accident(tmp_path):
    make_node_keys(tmp_path / "node.key", tmp_path / "node.pub")
    before = (tmp_path / "node.key").read_bytes()

    with pytest.raises(ConfigError, match="is there already"):
        make_node_keys(tmp_path / "node.key", tmp_path / "node.pub")

    assert (tmp_path / "node.key").read_bytes() == before


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, "cannot be read as a site's public key"),
        (ec.generate_private_key(ec.SECP256R1()), "another kind than expected"),
    ],
    ids=["no file", "another curve"],
)
def test_a_public_key_that_flower_would_not_take_is_explained(tmp_path, key, message):
    path = tmp_path / "node.pub"
    if key is not None:
        path.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))

    with pytest.raises(ConfigError, match=message):
        read_node_public_key(path)


def test_a_private_key_sent_by_mistake_is_not_taken_for_a_public_one(tmp_path):
    make_node_keys(tmp_path / "node.key", tmp_path / "node.pub")

    with pytest.raises(ConfigError, match="Ask the site for it again"):
        read_node_public_key(tmp_path / "node.key")
