"""Where a label server may listen."""

from __future__ import annotations

import dataclasses

import pytest

from segfed.cli.label_listen import Listen, check_listen
from segfed.errors import ServerError
from tests.tls_samples import make_certificate

OPEN = "0.0.0.0"


@pytest.fixture(scope="module")
def secured(tmp_path_factory) -> Listen:
    certificate, key = make_certificate(tmp_path_factory.mktemp("tls"))
    return Listen(OPEN, 8443, certificate, key, public_names=("labels.example",))


def check(listen: Listen, *, has_accounts: bool = True, reader: str | None = None) -> None:
    check_listen(listen, has_accounts=has_accounts, reader=reader)


def test_loopback_needs_nothing():
    check(Listen(), has_accounts=False)
    check(Listen("127.0.0.2"), has_accounts=False, reader="ann")
    check(Listen())


def test_others_are_served_with_accounts_tls_and_a_name_only(secured):
    check(secured)

    with pytest.raises(ServerError, match="without accounts"):
        check(secured, has_accounts=False)
    with pytest.raises(ServerError, match="without --public-name"):
        check(dataclasses.replace(secured, public_names=()))
    with pytest.raises(ServerError, match=r"accounts.* and --tls-certificate.* and --public-name"):
        check(Listen("192.168.1.5"), has_accounts=False)


def test_one_name_for_all_readers_contradicts_accounts():
    with pytest.raises(ServerError, match="--reader ann for a site that has accounts"):
        check(Listen(), reader="ann")


def test_a_certificate_needs_its_own_key_without_a_password(secured, tmp_path):
    _, other_key = make_certificate(tmp_path)
    with pytest.raises(ServerError, match=r"Cannot use the certificate .* belong together"):
        check(dataclasses.replace(secured, key=other_key))
    with pytest.raises(ServerError, match="only one of --tls-certificate and --tls-key"):
        check(dataclasses.replace(secured, key=None))
    certificate, locked = make_certificate(tmp_path, password=b"secret")
    with pytest.raises(ServerError, match="the key without a password"):
        check(dataclasses.replace(secured, certificate=certificate, key=locked))
    with pytest.raises(ServerError, match="Cannot use"):
        check(dataclasses.replace(secured, key=tmp_path / "missing"))


@pytest.mark.parametrize("host", ["labels.example", "::", "", "127.0.0.1; id"])
def test_a_host_is_an_address(host):
    with pytest.raises(ServerError, match="expected an IPv4 address"):
        check(Listen(host))


def test_addresses_are_those_that_readers_and_this_machine_use(secured):
    assert secured.url == "https://labels.example:8443"
    assert secured.local_url == "https://127.0.0.1:8443"
    assert secured.bound_url == "https://0.0.0.0:8443"
    assert secured.known_names == ("labels.example",), "web pages can name 0.0.0.0, too"
    assert Listen(port=80).url == Listen(port=80).local_url == "http://127.0.0.1:80"
