"""Nodes that are not let in: an unknown key, and a server that a site has no reason to believe."""

from __future__ import annotations

import shutil

import pytest

from segfed.cli.server import online_sites
from tests.deployment_samples import (
    federate,
    joined,
    make_federation,
    served,
    until,
)

pytestmark = pytest.mark.soak


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
