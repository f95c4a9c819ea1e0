"""What keeps a site's steps from drifting away from the other sites: FedProx and SCAFFOLD."""

from __future__ import annotations

import torch
from torch import nn

from segfed.engine.weights import State


class Steering:
    """A pull back to where a round began, a correction towards the other sites, both or neither.

    The pull is the gradient of FedProx's term of the loss, (mu / 2) ||w - w0||² (Li et al. 2020).
    The correction is SCAFFOLD's c - c_i (Karimireddy et al. 2020): each step of a rate r moves the
    weights by r (c - c_i) less than the optimizer alone. It follows the optimizer's step in place
    of preceding it as a gradient. For plain gradient descent, the paper's case, both are the same;
    Adam would divide a gradient by its size, and variates are measured in steps.
    """

    def __init__(self, network: nn.Module, *, mu: float, correction: State | None) -> None:
        """Remember where the network is now.

        Args:
            network: What will be trained.
            mu: Strength of the pull; 0 for none.
            correction: c - c_i by the parameters' names; None for none.
        """
        self._mu = mu
        self._anchors: list[tuple[nn.Parameter, torch.Tensor]] = []
        if mu:
            self._anchors = [(weight, weight.detach().clone()) for weight in network.parameters()]
        self._corrections: list[tuple[nn.Parameter, torch.Tensor]] = []
        if correction is not None:
            self._corrections = [
                (weight, correction[name].to(weight.device))
                for name, weight in network.named_parameters()
            ]

    def before_step(self) -> None:
        """Add mu (w - w0) to the gradients; a weight without one stays where it was anyway."""
        for weight, anchor in self._anchors:
            if weight.grad is not None:
                weight.grad.add_(weight.detach() - anchor, alpha=self._mu)

    @torch.no_grad()
    def after_step(self, rate: float) -> None:
        """Correct a step that the optimizer took at a learning rate."""
        for weight, correction in self._corrections:
            weight.sub_(correction, alpha=rate)
