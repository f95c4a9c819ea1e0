"""``segfed federate simulate`` as a real process, with either engine."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import psutil
import pytest
from mlflow import MlflowClient

from segfed.engine import read_weights
from tests.agent_samples import bean_manifest, labelled_site

# MLflow and its database layer warn of their own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")

NAMES = ("north", "southern", "west")


COMMAND = (sys.executable, "-c", "from segfed.cli import main; main()", "federate", "simulate")


def call(folder, sites, *options):
    """Simulate the study in a folder."""
    arguments = [folder / "study.json", *sites, "--out", folder / "run", *options]
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )


def simulate(folder, *options):
    """Run a study of three sites; what it says of its end."""
    manifest = bean_manifest(folder, federation={"compression": "int8"})
    (folder / "study.json").write_text(manifest.model_dump_json())
    sites = [labelled_site(folder, name=name).folder for name in NAMES]
    done = call(folder, sites, "--device", "cpu", "--threads", "1", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def final_weights(folder):
    return read_weights(folder / "run" / "round_003.safetensors")


def test_a_simulation_says_where_its_weights_are_and_logs_its_rounds(tmp_path):
    said = simulate(tmp_path, "--mlflow", "local")

    assert "3 rounds are done" in said
    assert final_weights(tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("beans")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    # Eight bits in place of 32, but for the scales.
    assert run.data.metrics["north/bytes_up"] < run.data.metrics["north/bytes_down"] / 3


@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is an extra")
def test_ray_ends_with_the_weights_of_one_process_and_leaves_none_behind(tmp_path):
    for engine in ("in-process", "ray"):
        (tmp_path / engine).mkdir()
        simulate(tmp_path / engine, "--engine", engine)

    one, ray = (final_weights(tmp_path / engine) for engine in ("in-process", "ray"))
    assert one.keys() == ray.keys()
    assert all(one[name].equal(ray[name]) for name in one)
    left = [p for p in psutil.process_iter(["cmdline"]) if _is_of_ray(p)]
    assert left == []


def _is_of_ray(process):
    """Whether a process is one of those that Ray starts for this test's federation."""
    return any("segfed-ray-" in word for word in process.info["cmdline"] or ())
