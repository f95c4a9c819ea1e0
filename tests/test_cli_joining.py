"""What a site starts to take part in a federation."""

from __future__ import annotations

import contextlib

import pytest

from segfed.cli import joining
from segfed.cli.supervisor import only_one
from segfed.errors import ConfigError, FederationError
from tests.agent_samples import labelled_site
from tests.test_cli_provision import make_kits


@pytest.fixture
def started(monkeypatch):
    """The programs that would have been started, by their names."""
    programs = {}

    @contextlib.contextmanager
    def supervisor(given, *, say):
        programs.update({program.name: program for program in given})
        yield contextlib.nullcontext()
        say("done")

    monkeypatch.setattr(joining, "Supervisor", supervisor)
    monkeypatch.setattr(joining, "until_told_to_stop", lambda: contextlib.suppress(AttributeError))
    return programs


def join(kit, site, folder):
    """Join with a socket in a folder."""
    joining.join(kit, site.folder, socket=folder / "a.sock", device="cpu", say=lambda _: None)


def test_agent_and_node_meet_at_one_socket(tmp_path, started):
    site, (_, kit, _) = labelled_site(tmp_path, splits=()), make_kits(tmp_path, make_keys=True)

    join(kit, site, tmp_path)

    assert list(started) == ["agent", "node"]
    assert str(tmp_path / "a.sock") in started["agent"].command
    assert f'agent-socket="{tmp_path / "a.sock"}"' in started["node"].command
    assert "seg.example.org:9092" in started["node"].command


def test_a_site_s_own_key_comes_before_that_of_a_trial(tmp_path, started):
    site, (_, kit, _) = labelled_site(tmp_path, splits=()), make_kits(tmp_path, make_keys=True)
    (site.folder / "node.key").touch()

    join(kit, site, tmp_path)

    assert str(site.folder / "node.key") in started["node"].command


def test_a_site_without_a_key_is_told_how_to_make_one(tmp_path, started):
    site, (_, kit, _) = labelled_site(tmp_path, splits=()), make_kits(tmp_path)

    with pytest.raises(ConfigError, match="segfed federate keys"):
        join(kit, site, tmp_path)

    assert not started


def test_a_node_alone_needs_nothing_of_the_site_s_folder(tmp_path, started):
    _, kit, _ = make_kits(tmp_path, make_keys=True)

    joining.run_node(kit, socket=tmp_path / "a.sock", say=lambda _: None)

    assert list(started) == ["node"]
    node = started["node"]
    assert f'agent-socket="{tmp_path / "a.sock"}"' in node.command
    assert str(kit / "node.key") in node.command
    assert (node.environment["FLWR_HOME"], node.log.parent) == (str(kit / "flower"), kit / "logs")


def test_a_site_that_has_joined_does_not_join_again(tmp_path, started):
    site, (_, kit, _) = labelled_site(tmp_path, splits=()), make_kits(tmp_path, make_keys=True)
    join(kit, site, tmp_path)
    started.clear()

    lock = site.folder / "flower" / "join.lock"
    with only_one(lock, what="site"), pytest.raises(FederationError, match=r"Another .*join"):
        join(kit, site, tmp_path)

    assert not started


def test_a_site_joins_although_the_server_s_certificate_was_renewed_since(tmp_path, started):
    site, (_, kit, _) = labelled_site(tmp_path, splits=()), make_kits(tmp_path, make_keys=True)
    text = (kit / "kit.toml").read_text()
    (kit / "kit.toml").write_text(
        "".join(line for line in text.splitlines(keepends=True) if "expires" not in line)
        + 'expires = "2020-01-01T00:00:00Z"\n'
    )

    join(kit, site, tmp_path)

    assert list(started) == ["agent", "node"]
