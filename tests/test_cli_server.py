"""Who is let in by the federation's server: the sites of the kit, and nobody else."""

from __future__ import annotations

import pytest

from segfed.cli import flower, server
from segfed.cli.kit import ServerKit
from segfed.cli.server import online_sites, read_registry, register_sites
from segfed.cli.supervisor import only_one
from segfed.errors import FederationError
from segfed.settings import toml_table


class Superlink:
    """Flower's register of nodes, which forgets no key."""

    def __init__(self) -> None:
        self.nodes: dict[int, str] = {}
        self.states: dict[int, str] = {}
        self._keys: set[str] = set()
        self._next = 100
        self.killed_after: str | None = None

    def register(self, _home, public_key):
        key = public_key.read_text().strip()
        if key in self._keys:
            raise flower.KeyRefusedError("The provided public key is already in use.")
        self._keys.add(key)
        self._next += 1
        self.nodes[self._next] = key
        if public_key.stem == self.killed_after:
            raise KeyboardInterrupt
        return self._next

    def find(self, _database, public_key):
        key = public_key.read_text().strip()
        return next((node for node, known in self.nodes.items() if known == key), None)

    def unregister(self, _home, node_id):
        if node_id not in self.nodes:
            raise FederationError("Node ID not found")
        del self.nodes[node_id]

    def list(self, _home):
        return {node: self.states.get(node, "registered") for node in self.nodes}


@pytest.fixture
def superlink(monkeypatch):
    """A register in place of Flower's."""
    link = Superlink()
    monkeypatch.setattr(flower, "register_node", link.register)
    monkeypatch.setattr(flower, "registered_node", link.find)
    monkeypatch.setattr(flower, "unregister_node", link.unregister)
    monkeypatch.setattr(flower, "node_states", link.list)
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

    first = register_sites(tmp_path, kit, say=print)

    assert register_sites(tmp_path, kit, say=print) == first == {"north": 101, "south": 102}
    assert superlink.nodes == {101: "a", 102: "b"}


def test_a_site_with_a_new_key_gets_a_new_node_and_its_old_key_is_worth_nothing(
    tmp_path, superlink
):
    register_sites(tmp_path, kit_of(tmp_path, north="a", south="b"), say=print)

    sites = register_sites(tmp_path, kit_of(tmp_path, north="a2", south="b"), say=print)

    assert sites == {"north": 103, "south": 102}
    assert superlink.nodes == {102: "b", 103: "a2"}


def test_a_site_that_left_the_kit_is_sent_away(tmp_path, superlink):
    register_sites(tmp_path, kit_of(tmp_path, north="a", south="b"), say=print)

    assert register_sites(tmp_path, kit_of(tmp_path, south="b"), say=print) == {"south": 102}
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
            register_sites(tmp_path, kit, say=print)

    assert register_sites(tmp_path, kit, say=print) == {"north": 101, "south": 102}
    assert read_registry(tmp_path).sites.keys() == {"north", "south"}


def test_a_site_that_was_let_in_but_not_written_down_keeps_its_node_and_its_key(
    tmp_path, superlink
):
    kit = kit_of(tmp_path, north="a", south="b")
    superlink.killed_after = "south"
    with pytest.raises(KeyboardInterrupt):
        register_sites(tmp_path, kit, say=print)
    assert read_registry(tmp_path).sites.keys() == {"north"}

    assert register_sites(tmp_path, kit, say=print) == {"north": 101, "south": 102}


@pytest.mark.usefixtures("superlink")
def test_a_site_that_comes_back_with_its_old_key_is_left_out_and_the_others_are_not(tmp_path):
    for kit in (kit_of(tmp_path, north="a", south="b"), kit_of(tmp_path, south="b")):
        register_sites(tmp_path, kit, say=print)
    kit, said = kit_of(tmp_path, north="a", south="b", west="c"), []

    assert register_sites(tmp_path, kit, say=said.append) == {"south": 102, "west": 103}
    assert said == ["Site north is left out. The provided public key is already in use."]


def test_a_farewell_that_was_cut_short_goes_on(tmp_path, superlink):
    register_sites(tmp_path, kit_of(tmp_path, north="a", south="b"), say=print)
    superlink.unregister(tmp_path, 101)

    assert register_sites(tmp_path, kit_of(tmp_path, south="b"), say=print) == {"south": 102}


@pytest.mark.usefixtures("superlink")
def test_a_server_with_a_new_database_lets_all_sites_in_again(tmp_path, monkeypatch):
    kit = kit_of(tmp_path, north="a", south="b")
    register_sites(tmp_path, kit, say=print)
    new = Superlink()
    monkeypatch.setattr(flower, "register_node", new.register)
    monkeypatch.setattr(flower, "node_states", new.list)

    register_sites(tmp_path, kit, say=print)

    assert sorted(new.nodes.values()) == ["a", "b"]


def test_who_is_there_is_told_by_the_site_s_name(tmp_path, superlink):
    register_sites(tmp_path, kit_of(tmp_path, north="a", south="b", west="c"), say=print)
    server.flower_home(tmp_path).mkdir()
    superlink.states = {101: "online", 102: "offline"}

    assert online_sites(tmp_path) == {"north": True, "south": False, "west": False}


def test_who_is_there_is_unknown_while_no_server_answers(tmp_path):
    assert online_sites(tmp_path) is None


def test_a_second_server_leaves_the_first_one_as_it_is(tmp_path):
    fields = kit_of(tmp_path, north="a", south="b").model_dump(mode="json")
    (tmp_path / "kit.toml").write_text(toml_table(fields))
    connection = server.flower_home(tmp_path) / "config.toml"
    connection.parent.mkdir()
    connection.write_text("of the first")

    running = only_one(tmp_path / "serve.lock", what="server")
    with running, pytest.raises(FederationError, match="Another server of the kit"):
        server.serve(tmp_path, say=print)

    assert connection.read_text() == "of the first"
