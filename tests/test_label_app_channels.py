"""The channels of a case, as the script in Slicer asks for them."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest
from fastapi import FastAPI

from label_app import channels
from label_app.store import SiteDatastore
from segfed.sites import Case, SiteSettings, add_case, create_site
from tests.asgi_samples import Client
from tests.sites_samples import make_image


@pytest.fixture
def case(tmp_path) -> Case:
    site = create_site(tmp_path / "south", SiteSettings(name="south", task="brain_tumor"))
    return add_case(
        site.folder,
        task=site.task,
        case_id="b1",
        patient_id="p1",
        split="train",
        channels={channel: make_image(seed) for seed, channel in enumerate(site.task.channels)},
    )


@pytest.fixture
def client(case, tmp_path, monkeypatch):  # noqa: ARG001 -- makes the site
    store = SiteDatastore(tmp_path / "south", reader=lambda: "ann")
    monkeypatch.setattr(channels, "app_instance", lambda: SimpleNamespace(datastore=lambda: store))
    served = FastAPI()
    served.include_router(channels.router)
    return Client(served)


def test_every_channel_is_listed_and_arrives_whole(client, case):
    listed = client.get("/channels/b1").json()

    assert (listed["id"], listed["displayed"]) == ("b1", "t1c")
    assert list(listed["channels"]) == list(case.channels) == ["t1n", "t1c", "t2w", "t2f"]
    for name, about in listed["channels"].items():
        content = client.get(f"/channels/b1/{name}").content
        assert content == case.channels[name].read_bytes()
        assert about == {
            "name": f"b1-{name}.nii.gz",
            "checksum": f"SHA256:{hashlib.sha256(content).hexdigest()}",
        }


@pytest.mark.parametrize("path", ["/channels/b2", "/channels/b2/t2f", "/channels/b1/adc"])
def test_what_the_site_does_not_have_is_not_there(client, path):
    assert client.get(path).status_code == 404


def test_no_path_leads_out_of_the_case(client):
    assert client.get("/channels/b1/..%2f..%2fsite.toml").status_code == 404
    assert client.get("/channels/..%2fsouth").status_code == 404


def test_a_missing_channel_is_named(client, case):
    case.channels["t2f"].unlink()

    refused = client.get("/channels/b1")

    assert refused.status_code == 422
    assert "channel t2f" in refused.json()["detail"]
