"""The configuration files inside a model's bundle, as ``monai.bundle`` reads them."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from segfed.engine.network import network_arguments
from segfed.engine.plan import Plan


def metadata(plan: Plan, *, weights_sha256: str) -> dict[str, Any]:
    """Content of ``configs/metadata.json``: MONAI's keys, then the plan and the weights' hash."""
    versions = {
        name: importlib.metadata.version(name)
        for name in ("monai", "torch", "numpy", "safetensors", "segfed")
    }
    return {
        "version": "1.0.0",
        "monai_version": versions["monai"],
        "pytorch_version": versions["torch"],
        "numpy_version": versions["numpy"],
        "required_packages_version": {name: versions[name] for name in ("safetensors", "segfed")},
        "name": plan.task,
        "task": f"Segmentation of {', '.join(plan.structures)} in {plan.modality}",
        "description": f"3D UNet for {plan.task}, trained with segfed. See model_card.md.",
        "network_data_format": _data_format(plan),
        "segfed_plan": plan.model_dump(mode="json"),
        "weights_sha256": weights_sha256,
    }


def inference(plan: Plan) -> dict[str, Any]:
    """Content of ``configs/inference.json``: reads one case, predicts, writes its label.

    ``monai.bundle.run(config_file=…, bundle_root=…, image={channel: path}, output=path)`` runs it
    where segfed is installed; weights are read as safetensors, never unpickled.
    """
    return {
        "imports": [
            "$from pathlib import Path",
            "$from safetensors.torch import load_file",
            "$from segfed.engine import load_bundle",
            "$from segfed.engine import predict_label",
            "$from segfed.engine import select_device",
            "$from segfed.volumes import read_channels",
            "$from segfed.volumes import write_label",
        ],
        "bundle_root": ".",
        "image": {channel: f"{channel}.nii.gz" for channel in plan.channels},
        "output": "label.nii.gz",
        "device": "$select_device('auto')",
        "plan": "$load_bundle(Path(@bundle_root)).plan",
        "network_def": {"_target_": "segfed.engine.network.UNet", **network_arguments(plan)},
        "weights": "$load_file(Path(@bundle_root) / 'models/model.safetensors')",
        "volume": "$read_channels({name: Path(path) for name, path in @image.items()})",
        "initialize": ["$@network_def.load_state_dict(@weights)"],
        "run": [
            "$write_label("
            "predict_label([@network_def], @plan, @volume, device=@device), Path(@output))"
        ],
    }


def _data_format(plan: Plan) -> dict[str, Any]:
    """MONAI's description of what goes into the network and what comes out."""
    inputs = [*plan.channels]
    if plan.click_label is not None:
        inputs += [
            f"{what} {plan.click_label}" for what in ("clicks on", "clicks beside", "earlier")
        ]
    names = {"0": "background"} | {str(value): name for name, value in plan.labels.items()}
    shape = list(plan.patch_voxels)
    return {
        "inputs": {
            "image": {
                "type": "image",
                "format": "hounsfield" if plan.modality == "CT" else "magnitude",
                "modality": plan.modality,
                "num_channels": plan.n_inputs,
                "spatial_shape": shape,
                "dtype": "float32",
                "value_range": [0, 1] if plan.window_hu else [],
                "is_patch_data": True,
                "channel_def": {str(n): name for n, name in enumerate(inputs)},
            }
        },
        "outputs": {
            "pred": {
                "type": "image",
                "format": "segmentation",
                "num_channels": plan.n_classes,
                "spatial_shape": shape,
                "dtype": "float32",
                "value_range": [],
                "is_patch_data": True,
                "channel_def": names,
            }
        },
    }
