"""SCAFFOLD's correction in a request to train."""

from __future__ import annotations

from torch import nn

from segfed.engine import State, check_weights
from segfed.protocol import CORRECTION_PREFIX
from segfed.rules import Algorithm


def split_correction(
    content: State, network: nn.Module, *, algorithm: Algorithm
) -> tuple[State, State | None]:
    """The global model in a request to train, and the site's correction if there is one.

    In a study by another algorithm nothing is split off, and a correction is an unknown part of
    the model.

    Args:
        content: The tensors of the request.
        network: The study's network, which the correction must fit as weights do.
        algorithm: The study's.

    Raises:
        WeightsError: If the correction does not fit the network, or is not finite.
    """
    if algorithm != "scaffold":
        return content, None
    model, correction = {}, {}
    for name, value in content.items():
        if name.startswith(CORRECTION_PREFIX):
            correction[name.removeprefix(CORRECTION_PREFIX)] = value
        else:
            model[name] = value
    if not correction:
        return model, None
    check_weights(correction, network, source="the request's correction")
    return model, correction
