"""The layers that sites keep of their own, beside the federated model that they belong to.

A site's test cases are predicted by the global model with the site's own layers, as its own agent
would; those of an external site by the global model as it is, with the mean of all sites' layers.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from segfed.agent import read_personal
from segfed.engine import read_weights, write_weights
from segfed.files import sha256_file, sha256_json
from segfed.protocol import Manifest
from segfed.study.models import ModelId
from segfed.study.run import StudyRun


def keep_personal(run: StudyRun, model: ModelId, manifest: Manifest, *, round_number: int) -> None:
    """Copy each site's layers after a round beside the model; a site that never trained has none.

    Raises:
        WeightsError: If a site's file is damaged.
    """
    if not manifest.federation.personal:
        return
    for site in run.data.sites:
        layers = read_personal(site.site.folder, manifest.sha256, round_number=round_number)
        if layers:
            write_weights(_path(run, model, site.site.name), layers)


def at_site(
    run: StudyRun, model: ModelId, networks: Sequence[nn.Module], *, site: str
) -> Sequence[nn.Module]:
    """A model's networks as they predict at a site: those given, or copies with its own layers."""
    path = _path(run, model, site)
    if not path.exists():
        return networks
    layers, own = read_weights(path), copy.deepcopy(list(networks))
    for network in own:
        network.load_state_dict(layers, strict=False)
    return own


def sha256_at_site(run: StudyRun, model: ModelId, weights_sha256: str, *, site: str) -> str:
    """Identifies the weights that predict at a site."""
    path = _path(run, model, site)
    return sha256_json([weights_sha256, sha256_file(path)]) if path.exists() else weights_sha256


def _path(run: StudyRun, model: ModelId, site: str) -> Path:
    """The layers of a site beside a model."""
    return run.out / model.folder / "personal" / f"{site}.safetensors"
