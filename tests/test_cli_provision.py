"""Start-up kits: who gets what, and what nobody gets."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from segfed.cli.certificates import make_node_keys
from segfed.cli.kit import (
    FederationSettings,
    expiry_warning,
    load_server_kit,
    load_site_kit,
    renewal_reminder,
)
from segfed.cli.provision import provision
from segfed.errors import ConfigError, FederationError
from segfed.settings import validated
from segfed.sites import SiteSettings
from tests.agent_samples import make_owner, owner_public_key


def settings(**changes):
    """Two hospitals and a server."""
    fields = {
        "name": "trial",
        "host": "seg.example.org",
        "owner": "owner.pub",
        "sites": {"north": "north.pub", "south": "south.pub"},
    }
    return FederationSettings.model_validate(fields | changes)


def make_kits(folder, *, now=None, make_keys=False, **changes):
    """The kits' folders; each site made its own key before."""
    if not (folder / "owner.pub").exists():
        owner_public_key(make_owner(folder))
    wanted = settings(**changes)
    for site, path in wanted.sites.items():
        if not make_keys and not (folder / path).exists():
            (folder / f"at_{site}").mkdir()
            make_node_keys(folder / f"at_{site}" / "node.key", folder / path)
    return provision(
        wanted,
        folder=folder,
        out=folder / "kits",
        now=now or datetime.now(UTC),
        make_keys=make_keys,
    )


def test_a_site_s_kit_holds_everything_that_it_needs_and_nothing_secret(tmp_path):
    _, north, _ = make_kits(tmp_path)

    assert sorted(path.name for path in north.iterdir()) == [
        "README.md",
        "ca.crt",
        "compose.yaml",
        "kit.toml",
        "owner.pub",
        "segfed-agent.service",
        "segfed-node.service",
        "site.toml",
    ]
    assert not any(b"PRIVATE KEY" in path.read_bytes() for path in north.iterdir())


def test_no_kit_holds_the_key_of_the_authority_or_of_a_site(tmp_path):
    server, *_ = make_kits(tmp_path)

    private = {
        path.relative_to(tmp_path)
        for path in (tmp_path / "kits").rglob("*")
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes()
    }
    assert {str(path) for path in private} == {"kits/authority/ca.key", "kits/server/server.key"}
    assert (server / "nodes" / "north.pub").read_bytes() == (tmp_path / "north.pub").read_bytes()


def test_a_trial_on_one_machine_gets_its_keys_made(tmp_path):
    _, north, south = make_kits(tmp_path, make_keys=True)

    assert (north / "node.key").exists()
    assert (south / "node.key").exists()
    assert (tmp_path / "north.pub").exists()


def test_kits_of_server_and_site_are_told_apart(tmp_path):
    server, north, _ = make_kits(tmp_path)

    with pytest.raises(ConfigError, match=r"kit of site 'north', expected the server's"):
        load_server_kit(north)
    with pytest.raises(ConfigError, match=r"kit of the server, expected a site's"):
        load_site_kit(server, site="north")


def test_kits_say_where_the_server_is_and_until_when(tmp_path):
    now = datetime(2040, 1, 1, tzinfo=UTC)
    server, north, _ = make_kits(tmp_path, now=now, days=10, port=9443, public_port=443)

    assert load_server_kit(server).port == 9443
    kit = load_site_kit(north, site="north")
    assert kit.superlink == "seg.example.org:443"
    assert kit.expires == now + timedelta(days=10)
    assert "2040-01-11" in (north / "README.md").read_text()


def test_the_template_of_a_site_s_settings_is_complete(tmp_path):
    _, north, _ = make_kits(tmp_path)

    content = tomllib.loads((north / "site.toml").read_text())

    assert validated(content, SiteSettings, source="site.toml").name == "north"


def test_compose_files_start_the_commands_of_the_readme(tmp_path):
    server, north, _ = make_kits(tmp_path)

    services = {
        kit.name: yaml.safe_load((kit / "compose.yaml").read_text())["services"]
        for kit in (server, north)
    }

    assert services["server"]["server"]["command"] == ["segfed", "federate", "serve", "/kit"]
    assert services["server"]["server"]["ports"] == ["9092:9092"]
    assert services["north"]["site"]["command"] == ["segfed", "federate", "join", "/kit", "/site"]
    assert "ports" not in services["north"]["site"]


def test_the_units_of_a_site_run_agent_and_node_as_two_users_who_meet_at_a_socket(tmp_path):
    _, north, _ = make_kits(tmp_path)

    agent, node = (
        (north / f"segfed-{name}.service").read_text().splitlines() for name in ("agent", "node")
    )

    assert {"User=segfed", "RuntimeDirectory=segfed"} <= set(agent)
    assert {"User=segfed-node", "SupplementaryGroups=segfed"} <= set(node)
    # A second unit with this folder would take it away from the first.
    assert "RuntimeDirectory=segfed" not in node
    run = "ExecStart=/opt/segfed/bin/segfed federate"
    assert f"{run} agent /srv/segfed/site --socket /run/segfed/agent.sock" in agent
    assert f"{run} node /srv/segfed/kit --socket /run/segfed/agent.sock" in node


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    server, north, _ = make_kits(tmp_path)
    for path in (*server.glob("*.service"), *north.glob("*.service")):
        # systemd wants to see the program.
        text = path.read_text().replace("/opt/segfed/bin/segfed", "/bin/true")
        unit = tmp_path / path.name
        unit.write_text(text)

        checked = subprocess.run(
            ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
        )

        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_a_server_s_kit_is_refused_before_tls_does_and_a_site_s_stays_good(tmp_path):
    long_ago = datetime.now(UTC) - timedelta(days=20)
    server, north, _ = make_kits(tmp_path, now=long_ago, days=10)

    with pytest.raises(FederationError, match=r"valid until .* Make a new one"):
        load_server_kit(server)
    assert load_site_kit(north, site="north").site == "north"


def test_a_certificate_that_expires_soon_is_announced(tmp_path):
    now = datetime.now(UTC)
    kit = load_server_kit(make_kits(tmp_path, now=now, days=40)[0])

    assert expiry_warning(kit, now=now) is None
    warning = expiry_warning(kit, now=now + timedelta(days=11))
    assert f"expires at {now + timedelta(days=40):%Y-%m-%d}" in warning
    assert "certificate expired at" in expiry_warning(kit, now=now + timedelta(days=41))


def test_a_site_asks_for_a_new_certificate_in_time_and_keeps_its_kit(tmp_path):
    now = datetime.now(UTC)
    kit = load_site_kit(make_kits(tmp_path, now=now, days=40)[1], site="north")

    assert renewal_reminder(kit, now=now + timedelta(days=9)) is None
    reminder = renewal_reminder(kit, now=now + timedelta(days=11))
    assert f"good until {now + timedelta(days=40):%Y-%m-%d}" in reminder
    assert "This kit stays good" in reminder


def test_renewed_kits_work_with_those_that_were_not(tmp_path):
    _, north, _ = make_kits(tmp_path)
    before = (north / "ca.crt").read_bytes()

    server, _ = make_kits(tmp_path, sites={"north": "north.pub", "west": "west.pub"})[:2]

    assert (north / "ca.crt").read_bytes() == before
    assert load_server_kit(server).sites == ("north", "west")


def test_the_kit_of_another_site_is_refused(tmp_path):
    _, north, _ = make_kits(tmp_path)

    with pytest.raises(ConfigError, match="kit of site 'north', expected that of 'south'"):
        load_site_kit(north, site="south")


def test_a_missing_public_key_is_asked_for(tmp_path):
    owner_public_key(make_owner(tmp_path))

    with pytest.raises(ConfigError, match="Ask the site for it again"):
        provision(
            settings(),
            folder=tmp_path,
            out=tmp_path / "kits",
            now=datetime.now(UTC),
            make_keys=False,
        )


@pytest.mark.parametrize(
    "changes",
    [{"sites": {"north": "n.pub"}}, {"sites": {"server": "a", "north": "b"}}, {"port": 0}],
    ids=str,
)
def test_impossible_federations_are_refused(changes):
    with pytest.raises(ValueError, match=r"sites|server|port"):
        settings(**changes)
