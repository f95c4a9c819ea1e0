"""Whose a study is."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from segfed.agent import trust as trust_file
from segfed.agent.refusal import RefusedError
from segfed.agent.signing import check_signature, read_signed, sign
from segfed.errors import ConfigError
from tests.agent_samples import make_owner, owner_public_key, trust
from tests.federation_samples import manifest


def test_the_site_s_own_name_for_the_key_tells_who_signed(tmp_path):
    other, chief = make_owner(tmp_path, "other"), make_owner(tmp_path, "chief")
    trust(tmp_path, other)
    trust(tmp_path, chief)

    assert check_signature(sign(manifest(), chief), tmp_path) == "chief"


def test_a_signed_manifest_survives_its_file(tmp_path):
    signed = sign(manifest(), make_owner(tmp_path))
    (tmp_path / "signed.json").write_text(signed.model_dump_json())

    assert read_signed(tmp_path / "signed.json") == signed


@pytest.mark.parametrize(
    "change",
    [
        {"manifest": manifest(rounds=4)},
        {"manifest": manifest(bundle_sha256="0" * 64)},
        {"signature": ""},
        {"signature": "no hexadecimal"},
        {"signature": "00" * 64},
    ],
    ids=str,
)
def test_an_altered_manifest_or_signature_is_refused(tmp_path, change):
    key = make_owner(tmp_path)
    trust(tmp_path, key)
    altered = sign(manifest(), key).model_copy(update=change)

    with pytest.raises(
        RefusedError, match=r"not as a trusted owner signed it.*segfed federate trust"
    ):
        check_signature(altered, tmp_path)


def test_an_owner_whom_the_site_does_not_trust_is_refused(tmp_path):
    trust(tmp_path, make_owner(tmp_path, "chief"))

    with pytest.raises(RefusedError, match="this site trusts chief"):
        check_signature(sign(manifest(), make_owner(tmp_path, "stranger")), tmp_path)


def test_a_key_of_another_kind_is_explained(tmp_path):
    path = tmp_path / "ec.key"
    path.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )

    with pytest.raises(ConfigError, match="expected Ed25519"):
        sign(manifest(), path)


@pytest.mark.parametrize("content", [None, b"no key"])
def test_a_key_that_cannot_be_read_is_explained(tmp_path, content):
    path = tmp_path / "my.key"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"my.key cannot be read.*openssl genpkey"):
        sign(manifest(), path)


def test_a_trusted_key_that_cannot_be_read_is_named(tmp_path):
    key = make_owner(tmp_path)
    trust(tmp_path, key)
    (tmp_path / "study_owners" / "a.pub").write_text("no key")

    with pytest.raises(ConfigError, match=r"a\.pub cannot be read as a public key"):
        check_signature(sign(manifest(), key), tmp_path)


def test_numbers_that_json_does_not_have_are_refused(tmp_path):
    signed = sign(manifest(), make_owner(tmp_path)).model_dump_json()
    (tmp_path / "signed.json").write_text(signed.replace('"seed":0', '"seed":NaN'))

    with pytest.raises(ConfigError, match="NaN is no number in JSON"):
        read_signed(tmp_path / "signed.json")


def test_an_owner_is_trusted_by_the_file_that_came_with_the_kit(tmp_path):
    chief = make_owner(tmp_path, "chief")

    trust_file(tmp_path / "site", owner_public_key(chief), name="trial")

    assert check_signature(sign(manifest(), chief), tmp_path / "site") == "trial"


def test_the_owner_of_another_federation_takes_nobody_s_place(tmp_path):
    first, second = make_owner(tmp_path, "first"), make_owner(tmp_path, "second")
    site = tmp_path / "site"
    trust_file(site, owner_public_key(first), name="owner")
    trust_file(site, owner_public_key(first), name="owner")  # the same key again is no other one

    with pytest.raises(ConfigError, match=r"another owner's key .* Choose one with --name"):
        trust_file(site, owner_public_key(second), name="owner")

    assert check_signature(sign(manifest(), first), site) == "owner"
    trust_file(site, owner_public_key(second), name="trial-2")
    assert check_signature(sign(manifest(), second), site) == "trial-2"


def test_a_private_key_is_not_kept_as_a_trusted_one(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read as a public key"):
        trust_file(tmp_path / "site", make_owner(tmp_path), name="trial")

    assert not (tmp_path / "site" / "study_owners").exists()
