"""The two commands between a site's cases and the plan of a federation."""

from __future__ import annotations

import json
import tomllib

from typer.testing import CliRunner

from segfed.cli.main import app
from segfed.engine import make_plan
from segfed.sites import load_task
from tests.fingerprint_samples import CtCase, make_ct_site

CASES = [CtCase((40, 44, 20), (1.0, 1.0, 2.5), seed=n) for n in range(2)]


def run(*arguments: str) -> str:
    """Stdout of a command that succeeds."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_fingerprints_become_the_plan_of_a_study(tmp_path):
    files = []
    for name in ("north", "south"):
        site = make_ct_site(tmp_path, name, CASES)
        run("site", "fingerprint", str(site.folder))
        files.append(str(site.folder / "fingerprint.json"))
    out = tmp_path / "plan.toml"

    text = run(
        "site", "plan", *files, "--task", "kidney_tumor", "--gpu-memory-gb", "3", "--out", str(out)
    )

    assert "spacing 1 x 1 x 2.5 mm" in " ".join(text.split())
    content = tomllib.loads(out.read_text())
    plan = make_plan(load_task("kidney_tumor"), content["plan"])
    assert plan.spacing_mm == (1.0, 1.0, 2.5)
    # Fat at -100 HU and its noise lie outside the structures
    assert -60 < content["window_hu"][0] < content["window_hu"][1] < 260
    assert "north: 2 cases" in out.read_text()


def test_a_program_reads_the_fingerprint_and_the_plan(tmp_path):
    site, file = make_ct_site(tmp_path, "north", CASES), str(tmp_path / "f.json")

    printed = json.loads(run("site", "fingerprint", str(site.folder), "--out", file, "--json"))
    made = json.loads(
        run(
            *("site", "plan", file, "--task", "kidney_tumor", "--gpu-memory-gb", "3", "--json"),
            *("--out", str(tmp_path / "plan.toml")),
        )
    )

    assert printed == json.loads((tmp_path / "f.json").read_text())
    assert made["plan"]["batch_size"] == 2
    assert 1 < made["gpu_memory_gb"] <= 3


def test_what_is_withheld_is_said_with_the_reason(tmp_path):
    kidneys = CtCase((40, 44, 20), (1.0, 1.0, 2.5), label_values=(1,))
    site = make_ct_site(tmp_path, "north", [*CASES, kidneys], minimum_cases=3)

    text = " ".join(run("site", "fingerprint", str(site.folder)).split())

    assert "Withheld: mass, tumor, because fewer than 3" in text
    assert "minimum_metric_cases" in text
