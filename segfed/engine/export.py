"""Trained networks in files that other programs run: a PyTorch program, and ONNX.

Both hold the bare network, from a preprocessed patch to logits. The bundle beside them says how an
image is preprocessed and how windows are put together.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segfed.engine.bundle import Model
from segfed.errors import ConfigError, WeightsError
from segfed.files import replacing

INPUT, OUTPUT = "image", "logits"

# Of the largest logit: what float32 loses when sums are taken in another order.
_TOLERANCE = 1e-4
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def export_program(model: Model, path: Path) -> float:
    """Write a network as a ``torch.export`` program, which runs without this package.

    ``torch.export.load(path).module()`` maps patches (B, C, I, J, K) to logits (B, K, I, J, K),
    for any B and the plan's patch.

    Returns:
        Largest difference between the logits of file and network, as a share of the largest logit.

    Raises:
        WeightsError: If the file computes something else than the network; none is written then.
    """

    def write(temporary: Path, patches: torch.Tensor) -> None:
        torch.export.save(_program(model.network, patches), temporary)

    def run(temporary: Path, patches: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = torch.export.load(temporary).module()(patches)
        return logits

    return _written(model, path, write=write, run=run)


def export_onnx(model: Model, path: Path) -> float:
    """Write a network as an ONNX file, with input ``image`` and output ``logits``.

    Shapes, result and errors are those of ``export_program``; the file is checked by running it in
    ONNX Runtime on the CPU.

    Raises:
        ConfigError: If the packages for ONNX are not installed.
    """
    missing = [name for name in _ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"ONNX export needs {', '.join(_ONNX_PACKAGES)}, but {', '.join(missing)} cannot be "
            "imported here. Install them: pip install 'segfed[onnx]'."
        )

    def write(temporary: Path, patches: torch.Tensor) -> None:
        # It tells on stderr that torchvision's operators, which no network here has, are missing.
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            # PyTorch's exporter calls its own deprecated names.
            warnings.simplefilter("ignore", FutureWarning)
            program = torch.onnx.export(
                _program(model.network, patches),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamo=True,
                verbose=False,
            )
        if program is None:
            raise WeightsError("PyTorch gave no ONNX program; expected one. Use --pt2 instead.")
        # One file: the weights stay inside it.
        program.save(temporary, external_data=False)

    def run(temporary: Path, patches: torch.Tensor) -> torch.Tensor:
        import onnxruntime

        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        (logits,) = session.run([OUTPUT], {INPUT: patches.numpy()})
        return torch.from_numpy(logits)

    return _written(model, path, write=write, run=run)


def _program(network: nn.Module, patches: torch.Tensor) -> Any:
    """The network as a graph whose batch may have any size."""
    shapes = ({0: torch.export.Dim("batch")},)
    return torch.export.export(network, (patches,), dynamic_shapes=shapes)


@torch.no_grad()
def _written(
    model: Model,
    path: Path,
    *,
    write: Callable[[Path, torch.Tensor], None],
    run: Callable[[Path, torch.Tensor], torch.Tensor],
) -> float:
    """Write a file, which appears only if it computes what the network does; the difference."""
    network = model.network.cpu().eval()
    # The first weights are those of the convolution behind the stem.
    channels = next(network.parameters()).shape[1] // network.stem_stride**3
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn((3, channels, *model.plan.patch_voxels), generator=generator)
    with replacing(path) as temporary:
        # Not the size that is checked: the batch must be free.
        write(temporary, patches[:2])
        expected = network(patches)
        difference = float((run(temporary, patches) - expected).abs().max() / expected.abs().max())
        if not difference <= _TOLERANCE:
            raise WeightsError(
                f"{path.name} gives logits that differ from the network's by {difference:.2g} of "
                f"the largest; expected at most {_TOLERANCE:g}. Nothing was written: use the "
                "bundle, or another version of PyTorch."
            )
    return difference
