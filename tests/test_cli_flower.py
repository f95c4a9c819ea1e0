"""How Flower's programs are started and asked."""

from __future__ import annotations

import itertools
import os
import sys
import tomllib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.server.superlink.linkstate import LinkStateFactory, sql_linkstate
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.superlink.federation import NoOpFederationManager

from segfed.cli import flower
from segfed.cli.certificates import make_node_keys
from segfed.errors import FederationError


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """A function that makes Flower's command print a text and end with an exit code."""
    monkeypatch.setattr(flower, "_PROGRAMS", tmp_path)
    (tmp_path / "home").mkdir()

    def answer(text, code=0):
        program = tmp_path / "flwr"
        program.write_text(
            f"#!{sys.executable}\nimport sys\nopen('asked', 'w').write(' '.join(sys.argv[1:]))\n"
            f"sys.stdout.write({text!r})\nsys.exit({code})\n"
        )
        program.chmod(0o755)

    return answer


def test_flower_neither_reports_nor_installs_anything(tmp_path):
    environment = flower.environment(tmp_path)

    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert environment["FLWR_HOME"] == str(tmp_path.resolve())
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_only_the_nodes_port_listens_beyond_this_machine(tmp_path):
    tls = flower.ServerCertificate(tmp_path / "ca", tmp_path / "crt", tmp_path / "key")
    command = flower.superlink_command(
        tls=tls, database=tmp_path / "db", fleet="0.0.0.0:9092", control_port=1, appio_port=2
    )

    options = dict(itertools.pairwise(command))
    assert options["--fleet-api-address"] == "0.0.0.0:9092"
    assert options["--control-api-address"] == "127.0.0.1:1"
    assert options["--serverappio-api-address"] == "127.0.0.1:2"
    assert "--enable-supernode-auth" in command
    assert "--insecure" not in command


def test_a_node_knows_its_server_its_key_and_its_agent(tmp_path):
    command = flower.supernode_command(
        superlink="seg.example.org:443",
        authority=tmp_path / "ca.crt",
        key=tmp_path / "node.key",
        agent_socket=Path('/run/a "b".sock'),
        appio_port=7,
    )

    assert command[3] == "flower-supernode"
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert options["--superlink"] == "seg.example.org:443"
    assert options["--root-certificates"] == str(tmp_path / "ca.crt")
    assert options["--auth-supernode-private-key"] == str(tmp_path / "node.key")
    assert options["--clientappio-api-address"] == "127.0.0.1:7"
    # Flower reads it as TOML.
    assert tomllib.loads(options["--node-config"]) == {"agent-socket": '/run/a "b".sock'}


def test_a_connection_is_written_where_flower_looks(tmp_path):
    flower.write_connection(tmp_path, control_port=9093, authority=tmp_path / "ca.crt")

    content = tomllib.loads((tmp_path / "config.toml").read_text())["superlink"]
    assert content[content["default"]] == {
        "address": "127.0.0.1:9093",
        "root-certificates": str((tmp_path / "ca.crt").resolve()),
    }


def test_a_node_s_number_is_read_from_the_answer(tmp_path, answers):
    answers('Registering.\n{"success": true, "node-id": "12345678901234567890"}')

    assert flower.register_node(tmp_path / "home", tmp_path / "a.pub") == 12345678901234567890
    asked = (tmp_path / "home" / "asked").read_text()
    assert asked == f"supernode register {tmp_path / 'a.pub'} --format json"


def test_a_key_that_was_known_before_is_told_from_a_server_that_does_not_answer(tmp_path, answers):
    answers(
        '{"success": false, "error-message": '
        '"The provided public key is already in use by another SuperNode."}'
    )
    with pytest.raises(flower.KeyRefusedError, match=r"refuses the key .*federate keys"):
        flower.register_node(tmp_path / "home", tmp_path / "a.pub")

    answers("boom", code=1)
    with pytest.raises(FederationError) as failure:
        flower.register_node(tmp_path / "home", tmp_path / "a.pub")
    assert not isinstance(failure.value, flower.KeyRefusedError)


def test_the_state_of_nodes_and_runs_is_read(tmp_path, answers):
    answers(
        '{"success": true, "nodes": [{"node-id": "3", "status": "online"}, '
        '{"node-id": "4", "status": "unregistered"}]}'
    )
    assert flower.node_states(tmp_path / "home") == {3: "online"}

    answers('{"success": true, "runs": [{"status": "finished:failed"}]}')
    assert flower.run_state(tmp_path / "home", 4) == "finished:failed"


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ('{"success": false, "error-message": "no such node"}', 0, "no such node"),
        ('{"success": true}', 1, "success"),
        ("Traceback: boom", 1, "boom"),
        ("", 3, "exit code 3"),
        ("{ not json", 0, "not json"),
    ],
)
def test_a_failure_is_explained_whatever_the_exit_code(tmp_path, answers, text, code, reason):
    answers(text, code)

    with pytest.raises(FederationError, match=f"supernode list` failed: .*{reason}.*serve"):
        flower.node_states(tmp_path / "home")


def test_a_server_that_does_not_answer_is_not_waited_for_without_end(
    tmp_path, answers, monkeypatch
):
    answers("")
    (tmp_path / "flwr").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(flower, "_PATIENCE_SECONDS", 0.1)

    with pytest.raises(FederationError, match="no answer within"):
        flower.node_states(tmp_path / "home")


def test_a_server_that_never_ran_is_named(tmp_path):
    with pytest.raises(FederationError, match="nobody has started the server"):
        flower.node_states(tmp_path / "kit" / "flower")


@pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning")  # as Flower has it
@pytest.mark.parametrize("number", [7, 2**63 + 5])
def test_a_key_that_was_let_in_is_found_by_what_flower_itself_wrote(tmp_path, number, monkeypatch):
    make_node_keys(tmp_path / "node.key", tmp_path / "node.pub")
    make_node_keys(tmp_path / "other.key", tmp_path / "other.pub")
    monkeypatch.setattr(sql_linkstate, "generate_rand_int_from_bytes", lambda *_, **__: number)
    database = tmp_path / "superlink.db"
    state = LinkStateFactory(str(database), NoOpFederationManager(), ObjectStoreFactory()).state()
    key = load_ssh_public_key((tmp_path / "node.pub").read_bytes())
    state.create_node("me", "me", public_key_to_bytes(key), heartbeat_interval=30)

    assert flower.registered_node(database, tmp_path / "node.pub") == number
    assert flower.registered_node(database, tmp_path / "other.pub") is None
    state.delete_node("me", number)
    assert flower.registered_node(database, tmp_path / "node.pub") is None


def test_a_database_that_is_none_is_explained(tmp_path):
    make_node_keys(tmp_path / "node.key", tmp_path / "node.pub")

    with pytest.raises(FederationError, match=r"cannot be read .*unable to open"):
        flower.registered_node(tmp_path / "superlink.db", tmp_path / "node.pub")
