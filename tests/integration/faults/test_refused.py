"""Nodes that are not let in: an unknown key, and a server that a site has no reason to believe."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

import pytest

from segfed.cli.kit import FederationSettings
from segfed.cli.provision import provision
from segfed.cli.server import online_sites
from segfed.settings import load_toml
from tests.deployment_samples import (
    federate,
    final_weights,
    joined,
    make_federation,
    served,
    signed_study,
    simulated_weights,
    submit,
    until,
)

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    """A server that knows two sites: one has another key by now, one trusts another authority."""
    ready = make_federation(tmp_path_factory.mktemp("federation"))
    (ready.site("north") / "node.key").unlink()
    federate("keys", ready.site("north"))
    other = make_federation(tmp_path_factory.mktemp("other"))
    authority = ready.folder / "kits" / "southern" / "ca.crt"
    shutil.copy(other.folder / "kits" / "southern" / "ca.crt", authority)
    with served(ready):
        yield ready


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("north", "No SuperNode found with the given public key"),
        ("southern", "CERTIFICATE_VERIFY_FAILED"),
    ],
    ids=["unknown key", "another authority"],
)
def test_a_node_that_may_not_or_will_not_connect_stays_outside(federation, name, said):
    with joined(federation, name) as process:
        until(
            lambda: said in federation.said(name),
            alive=process,
            said=lambda: federation.said(name),
        )

        assert online_sites(federation.kit) == {"north": False, "southern": False}


def provision_until(federation, *, moment):
    """Kits whose server certificate expires at a moment."""
    path = federation.folder / "federation.toml"
    settings = load_toml(path, FederationSettings, kind="federation")
    provision(
        settings,
        folder=federation.folder,
        out=federation.folder / "kits",
        now=moment - timedelta(days=settings.days),
        make_keys=False,
    )


def test_an_expired_certificate_lets_nobody_in_until_it_is_renewed(tmp_path):
    federation = make_federation(tmp_path)
    study = signed_study(federation, rounds=1)
    expires = datetime.now(UTC) + timedelta(seconds=90)
    provision_until(federation, moment=expires)

    with served(federation) as server:
        until(lambda: datetime.now(UTC) > expires)
        with joined(federation, "north") as north, joined(federation, "southern"):
            until(lambda: "CERTIFICATE_VERIFY_FAILED" in federation.said("north"), alive=north)
            server.terminate()
            server.wait(60)
            federate("provision", tmp_path / "federation.toml", "--out", federation.kit.parent)
            # The sites know of nothing, and keep the kits that they have.
            with served(federation):
                until(lambda: online_sites(federation.kit) == {"north": True, "southern": True})
                done = submit(federation, study)

    assert "The server's certificate expires at" in federation.said("server")
    assert done.returncode == 0, done.stderr
    assert final_weights(federation, study) == simulated_weights(tmp_path / "simulated", study)
