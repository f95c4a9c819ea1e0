"""A federated model at the sites that keep layers of their own."""

from __future__ import annotations

import torch

from segfed.agent.personal import write_personal
from segfed.engine import build_network, personal_part, read_plan
from segfed.rules import FederationRules
from segfed.study.records import read_scores, read_study
from segfed.study.runner import run_study
from tests.study_samples import make_settings, make_sites, pretend_federation


def federation_with_layers_at(site):
    """Ends with the start weights, and norm layers at one site that see nothing but background."""

    def launch(job, *, on_round):
        state = pretend_federation(job, on_round=on_round)
        network = build_network(read_plan(job.manifest.plan), seed=0)
        with torch.no_grad():
            network.heads[0].bias[0] = 1e6
        layers = personal_part(network.state_dict(), network, job.manifest.federation.personal)
        write_personal(site.folder, job.manifest.sha256, round_number=1, layers=layers)
        return state

    return launch


def test_each_site_is_scored_with_its_own_layers_and_others_with_the_global_model(tmp_path):
    a, _, _ = make_sites(tmp_path)
    settings = make_settings(
        tmp_path, regimes=("federated",), federation=FederationRules(personal=("head",))
    )
    launch = federation_with_layers_at(a)

    run_study(settings, out=tmp_path / "run", launch_federation=launch)

    def volumes(regime):
        return {
            (row.test_site, row.case, row.structure): row.value
            for row in read_scores(tmp_path / "run" / "scores.csv")
            if row.metric == "volume_difference_mm3" and row.regime == regime
        }

    # The head that a keeps finds nothing: the whole reference is missing. Others see the start.
    untrained, federated = volumes("untrained"), volumes("federated")
    assert all(value < 0 for (site, *_), value in federated.items() if site == "a")
    assert {k: v for k, v in federated.items() if k[0] != "a"} == {
        k: v for k, v in untrained.items() if k[0] != "a"
    }
    assert any("own head layers" in text for text in read_study(tmp_path / "run").warnings)
