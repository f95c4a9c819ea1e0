"""The script for 3D Slicer, without Slicer: its requests against our routes, over real HTTP."""

from __future__ import annotations

import importlib.util
import socket
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvicorn
from fastapi import FastAPI, Request

from label_app import channels
from label_app.store import SiteDatastore
from segfed.sites import Case, SiteSettings, add_case, create_site
from tests.sites_samples import make_image

SCRIPT = Path(__file__).parents[1] / "deploy" / "slicer" / "load_channels.py"
spec = importlib.util.spec_from_file_location("load_channels", SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("slicer") / "south"
    site = create_site(folder, SiteSettings(name="south", task="brain_tumor"))
    return add_case(
        site.folder,
        task=site.task,
        case_id="b1",
        patient_id="p1",
        split="train",
        channels={channel: make_image(seed) for seed, channel in enumerate(site.task.channels)},
    )


@pytest.fixture(scope="module")
def server(case):
    """Our routes on a real port; notes the requests and the login that came with them."""
    folder = case.channels["t1c"].parents[1]
    store = SiteDatastore(folder, reader=lambda: "ann")
    served = FastAPI()
    served.include_router(channels.router)
    requests: list[tuple[str, str | None]] = []

    @served.middleware("http")
    async def note(request: Request, call_next):
        requests.append((request.url.path, request.headers.get("authorization")))
        return await call_next(request)

    @served.get("/strange/channels/b1")
    def strange() -> list[str]:
        return ["t1c"]

    with pytest.MonkeyPatch.context() as patch, socket.socket() as listening:
        patch.setattr(channels, "app_instance", lambda: SimpleNamespace(datastore=lambda: store))
        listening.bind(("127.0.0.1", 0))
        runner = uvicorn.Server(uvicorn.Config(served, log_level="critical"))
        thread = threading.Thread(target=runner.run, args=([listening],))
        thread.start()
        deadline = time.monotonic() + 30
        while not runner.started and time.monotonic() < deadline:
            time.sleep(0.01)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        yield SimpleNamespace(url=url, requests=requests)
        runner.should_exit = True
        thread.join()


def fetch(server, folder, *, channel="t2f", **changes):
    about = script.other_channels(server.url, "b1", {})[channel] | changes
    return script.download(server.url, "b1", channel, **about, folder=folder, headers={})


def test_the_displayed_channel_is_not_loaded_again(server):
    assert list(script.other_channels(server.url, "b1", {})) == ["t1n", "t2w", "t2f"]


def test_a_channel_arrives_whole_and_is_downloaded_once(server, case, tmp_path):
    path = fetch(server, tmp_path)
    n_requests = len(server.requests)
    again = fetch(server, tmp_path)

    assert path == again == tmp_path / "b1-t2f.nii.gz"
    assert path.read_bytes() == case.channels["t2f"].read_bytes()
    assert [url for url, _ in server.requests[n_requests:]] == ["/channels/b1"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_copy_is_downloaded_again(server, case, tmp_path):
    path = fetch(server, tmp_path)
    path.write_bytes(b"half of it")

    assert fetch(server, tmp_path).read_bytes() == case.channels["t2f"].read_bytes()


def test_what_does_not_have_its_checksum_is_not_kept(server, tmp_path):
    with pytest.raises(script.ChannelError, match="t2f of case b1 arrived with the checksum"):
        fetch(server, tmp_path, checksum=f"SHA256:{'0' * 64}")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../b1.nii.gz", "/etc/b1.nii.gz", "b1.py", ".nii.gz", "a\\b.nii.gz"]
)
def test_the_servers_file_names_stay_in_the_folder(server, tmp_path, name):
    with pytest.raises(script.ChannelError, match="file name"):
        fetch(server, tmp_path, name=name)


def test_refusals_come_in_the_servers_words(server):
    with pytest.raises(script.ChannelError, match=r"has no case 'b7'"):
        script.other_channels(server.url, "b7", {})


def test_another_kind_of_server_is_named(server):
    with pytest.raises(script.ChannelError, match="expected a segfed label server"):
        script.other_channels(f"{server.url}/strange", "b1", {})


def test_a_silent_or_mistyped_server_is_named():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(script.ChannelError, match="does not answer"):
            script.other_channels(url, "b1", {})
    with pytest.raises(script.ChannelError, match="expected one that begins with http"):
        script.other_channels("file:///etc", "b1", {})


def test_within_slicer_every_channel_is_loaded_under_its_name_with_the_modules_login(
    server, tmp_path, monkeypatch
):
    loaded = {}
    scene = SimpleNamespace(GetFirstNodeByName=lambda name: loaded.get(name))
    client = SimpleNamespace(_headers={"Authorization": "bearer x", "content-length": "9"})
    module = SimpleNamespace(
        current_sample={"id": "b1"},
        serverUrl=lambda: server.url,
        logic=SimpleNamespace(_client=lambda: client),
    )
    slicer = SimpleNamespace(
        modules=SimpleNamespace(MONAILabelWidget=module),
        mrmlScene=scene,
        app=SimpleNamespace(temporaryPath=str(tmp_path)),
        util=SimpleNamespace(loadVolume=lambda path, wish: loaded.update({wish["name"]: path})),
    )
    monkeypatch.setitem(sys.modules, "slicer", slicer)
    n_requests = len(server.requests)

    names = script.load_channels()

    assert names == list(loaded) == ["b1 t1n", "b1 t2w", "b1 t2f"]
    assert {login for _, login in server.requests[n_requests:]} == {"bearer x"}
    assert script.load_channels() == [], "what is in the scene already stays"
    module.current_sample = None
    with pytest.raises(script.ChannelError, match="Press Next Sample"):
        script.load_channels()
