"""Who is let in by the federation's server: the sites of the kit, and nobody else."""

from __future__ import annotations

import pytest

from segfed.cli import flower, server
from segfed.cli.kit import ServerKit
from segfed.cli.server import online_sites, read_registry, register_sites
from segfed.errors import FederationError


class Superlink:
    """Flower's register of nodes."""

    def __init__(self) -> None:
        self.nodes: dict[int, str] = {}
        self.states: dict[int, str] = {}
        self._next = 100

    def register(self, _home, public_key):
        self._next += 1
        self.nodes[self._next] = public_key.read_text().strip()
        return self._next

    def unregister(self, _home, node_id):
        del self.nodes[node_id]


@pytest.fixture
def superlink(monkeypatch):
    """A register in place of Flower's."""
    link = Superlink()
    monkeypatch.setattr(flower, "register_node", link.register)
    monkeypatch.setattr(flower, "unregister_node", link.unregister)
    monkeypatch.setattr(flower, "node_states", lambda _home: link.states)
    return link


def kit_of(folder, **keys):
    """A kit with these sites and keys."""
    (folder / "nodes").mkdir(exist_ok=True)
    for site, key in keys.items():
        (folder / "nodes" / f"{site}.pub").write_text(f"{key}\n")
    return ServerKit(
        federation="trial",
        bind="127.0.0.1",
        port=9092,
        sites=tuple(keys),
        expires="2100-01-01T00:00:00Z",
    )


def test_a_site_keeps_its_node_however_often_the_server_starts(tmp_path, superlink):
    kit = kit_of(tmp_path, north="a", south="b")

    first = register_sites(tmp_path, kit)

    assert register_sites(tmp_path, kit) == first == {"north": 101, "south": 102}
    assert superlink.nodes == {101: "a", 102: "b"}


def test_a_site_with_a_new_key_gets_a_new_node_and_its_old_key_is_worth_nothing(
    tmp_path, superlink
):
    register_sites(tmp_path, kit_of(tmp_path, north="a", south="b"))

    sites = register_sites(tmp_path, kit_of(tmp_path, north="a2", south="b"))

    assert sites == {"north": 103, "south": 102}
    assert superlink.nodes == {102: "b", 103: "a2"}


def test_a_site_that_left_the_kit_is_sent_away(tmp_path, superlink):
    register_sites(tmp_path, kit_of(tmp_path, north="a", south="b"))

    assert register_sites(tmp_path, kit_of(tmp_path, south="b")) == {"south": 102}
    assert superlink.nodes == {102: "b"}


def test_a_registration_that_was_cut_short_goes_on(tmp_path, superlink, monkeypatch):
    kit = kit_of(tmp_path, north="a", south="b")

    def fail_at_south(home, key):
        if key.stem == "south":
            raise FederationError("gone")
        return superlink.register(home, key)

    with monkeypatch.context() as patch:
        patch.setattr(flower, "register_node", fail_at_south)
        with pytest.raises(FederationError):
            register_sites(tmp_path, kit)

    assert register_sites(tmp_path, kit) == {"north": 101, "south": 102}
    assert read_registry(tmp_path).sites.keys() == {"north", "south"}


def test_who_is_there_is_told_by_the_site_s_name(tmp_path, superlink):
    register_sites(tmp_path, kit_of(tmp_path, north="a", south="b", west="c"))
    server.flower_home(tmp_path).mkdir()
    superlink.states = {101: "online", 102: "offline"}

    assert online_sites(tmp_path) == {"north": True, "south": False, "west": False}


def test_who_is_there_is_unknown_while_no_server_answers(tmp_path):
    assert online_sites(tmp_path) is None
