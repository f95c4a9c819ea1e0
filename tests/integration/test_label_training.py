"""Slicer's train button against the real label server, through MONAI Label's own client."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import httpx
import psutil
import pytest

from segfed.cli.label_listen import Listen
from segfed.cli.label_server import running_server
from segfed.engine import load_bundle
from segfed.study import current_model
from tests.study_samples import approve, make_site, publish_start


# The training runs at low priority: on a busy machine it takes minutes to start.
def until(condition: Callable[[], bool], *, seconds: float = 500.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited for {seconds:g} seconds"
        time.sleep(0.2)


# MONAI Label's own client imports a deprecated module and leaves its sockets to be collected.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_training_is_started_watched_and_ends_with_the_server(tmp_path):
    from monailabel.client.client import MONAILabelClient, MONAILabelClientException

    site = make_site(tmp_path, "a", seed=1)
    parent = publish_start(site, tmp_path / "bundle")
    with running_server(site.folder, listen=Listen(), reader="ann", device="cpu") as server:
        client = MONAILabelClient(server.url, tmpdir=str(tmp_path))
        info = client.info()
        assert list(info["trainers"]) == ["kidney_tumor"]
        assert info["train_stats"] == {"kidney_tumor": {}}
        assert not client.train_status(check_if_running=True)
        with pytest.raises(MONAILabelClientException, match=r"422.*an approved label"):
            client.train_start("kidney_tumor", {})
        approve(site, 0)

        begun = client.train_start("kidney_tumor", {"minutes": 30})
        until(lambda: "epoch" in client.info()["train_stats"]["kidney_tumor"])
        running = client.train_status()
        with pytest.raises(MONAILabelClientException, match="429"):
            client.train_start("kidney_tumor", {})
        stopped = client.train_stop()
        assert (begun["status"], running["status"]) == ("RUNNING", "RUNNING")
        assert (stopped["id"], stopped["status"]) == (begun["id"], "STOPPED")
        assert load_bundle(current_model(site)).sha256 == parent

        client.train_start("kidney_tumor", {"minutes": 0.05})
        (child,) = training_processes(server.process.pid)
        lowered = psutil.Process(server.process.pid).nice() + 10
        until(lambda: child.nice() == lowered, seconds=30)
        os.kill(server.process.pid, signal.SIGKILL)
        until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, seconds=30)


def training_processes(server_pid: int) -> list[psutil.Process]:
    """The trainings that a server has started."""
    children = psutil.Process(server_pid).children()
    return [child for child in children if "train" in child.cmdline()]


def test_a_training_publishes_and_other_channels_are_served(tmp_path):
    site = make_site(tmp_path, "a", seed=1)
    parent = publish_start(site, tmp_path / "bundle")
    approve(site, 0, 2)
    with (
        running_server(site.folder, listen=Listen(), reader="ann", device="cpu") as server,
        httpx.Client(base_url=server.url) as client,
    ):
        listed = client.get("/channels/a-1").json()
        assert list(listed["channels"]) == ["ct"]
        file = client.get("/channels/a-1/ct").content
        assert file == site.case("a-1").channels["ct"].read_bytes()

        assert client.post("/train/kidney_tumor", json={"minutes": 0.05}).status_code == 200
        until(lambda: client.get("/train/").json()["status"] != "RUNNING")

        task = client.get("/train/").json()
        proposal = client.post("/infer/kidney_tumor", params={"image": "a-1"})
        refused = client.post("/infer/kidney_tumor", params={"image": "a-0"})
    assert task["status"] == "DONE", task
    model = load_bundle(current_model(site))
    assert model.lineage.parent == parent
    assert any(f"now proposes with model {model.sha256[:12]}" in line for line in task["details"])
    assert model.sha256 in proposal.text
    assert "a-0 is among the training images" in refused.json()["detail"]
