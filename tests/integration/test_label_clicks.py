"""Clicks against the real label server, asked as 3D Slicer's module asks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segfed.cli.label_server import label_server
from segfed.phantom.slicer import SlicerClient
from segfed.volumes import Volume, read_label, write_label
from tests.model_samples import publish_untrained
from tests.sites_samples import make_grid, make_site


def clicked(client, case_id: str, **points):
    """Label (I, J, K) and what came with it, for points on the segment 'core' and beside it."""
    wishes = {"label": "core", "foreground": [], "background": [], "result_extension": ".nrrd"}
    file, said = client.infer("bean_clicks", case_id, wishes | points)
    return read_label(Path(file)).data[0], said


# MONAI Label's own client imports a deprecated module and leaves its sockets to be collected.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_reader_corrects_a_proposal_with_clicks_and_no_reader_of_the_manual_arm_can(tmp_path):
    from monailabel.client.client import MONAILabelClient, MONAILabelClientException

    site = make_site(tmp_path, splits=("train", "train"))
    proposing = publish_untrained(site, tmp_path / "proposing")
    helping = publish_untrained(site, tmp_path / "helping", click_label="core")
    site.ledger().assign("ann", "case0", "assisted")
    site.ledger().assign("ann", "case1", "manual")

    with label_server(site.folder, reader="ann", device="cpu") as url:
        client = MONAILabelClient(url, tmpdir=str(tmp_path))
        models = client.info()["models"]
        assert client.next_sample("oldest_first", {})["id"] == "case0"
        _, proposed = client.infer("bean", "case0", {})
        first, said = clicked(client, "case0", foreground=[[2, 2, 2]])
        second, _ = clicked(
            client, "case0", foreground=[[2, 2, 2], [6, 5, 4]], background=[[4, 1, 1]]
        )
        with SlicerClient(url, site.task, client_id="ann") as slicer:
            simulated = slicer.click(slicer.info(), "case0", [(2, 2, 2)])
        with pytest.raises(MONAILabelClientException, match=r"422.*7 x 6 x 5"):
            clicked(client, "case0", foreground=[[7, 0, 0]])
        with pytest.raises(MONAILabelClientException, match=r"422.*case1 is to be drawn by hand"):
            clicked(client, "case1", foreground=[[2, 2, 2]])
        write_label(Volume(second[None], make_grid()), tmp_path / "label.nii.gz")
        saved = client.save_label("case0", str(tmp_path / "label.nii.gz"), params={})

    assert {name: model["type"] for name, model in models.items()} == {
        "bean": "segmentation",
        "bean_clicks": "deepgrow",
    }
    assert proposed["model_sha256"] == proposing
    assert first[2, 2, 2] == 2
    assert np.array_equal(simulated, first), "our client asks as MONAI Label's does"
    assert said["label_names"] == {"core": 2}
    assert said["model_sha256"] == helping
    assert (second[2, 2, 2], second[6, 5, 4], second[4, 1, 1]) == (2, 2, 0)
    assert (first != second).any()
    assert set(np.unique(second)) <= {0, 2}
    assert saved["origin"].startswith("ai_")
    record = site.ledger().current("case0", "assisted")
    assert (record.model_sha256, record.proposal_sha256) == (proposing, proposed["proposal_sha256"])
    assert [event.kind for event in site.ledger().events("ann", "case1")] == []
    site.ledger().verify()
