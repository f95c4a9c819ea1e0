"""FedProx's pull of a network back to where a round began."""

from __future__ import annotations

from torch import nn


class ProximalPull:
    """FedProx's pull back to where a network was, as the gradient of its term of the loss."""

    def __init__(self, network: nn.Module, mu: float) -> None:
        """Remember where the network is now."""
        self._parameters = list(network.parameters())
        self._anchors = [parameter.detach().clone() for parameter in self._parameters]
        self._mu = mu

    def add_gradient(self) -> None:
        """Add mu (w - w0) to the gradients; a weight without one stays where it was anyway."""
        for parameter, anchor in zip(self._parameters, self._anchors, strict=True):
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - anchor, alpha=self._mu)
