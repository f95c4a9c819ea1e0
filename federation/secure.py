"""The server's part in secure aggregation: it carries keys and shares, and learns the sum alone.

Between training and validation a round has four more exchanges: keys, shares, masked updates and
what takes the left masks off. A site that is silent in one of them is dropped for the round; the
round fails where fewer than the threshold are left.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray
from pydantic import ValidationError

from federation.messages import (
    ARRAYS,
    Weights,
    content_bytes,
    read_arrays,
    read_body,
    weights_sha256,
)
from federation.updates import failure
from segfed.errors import FederationError
from segfed.privacy import (
    FixedPoint,
    Group,
    KeyRequest,
    MaskRequest,
    Numbers,
    PublicKeys,
    ShareReply,
    ShareRequest,
    UnmaskReply,
    UnmaskRequest,
    longest_update,
    round_context,
    session_context,
    with_masks,
)
from segfed.protocol import Manifest, Stage
from segfed.settings import Settings

Reply = TypeVar("Reply", bound=Settings)
Ask = Callable[[Stage, Mapping[str, Settings]], Iterator[tuple[str, Message]]]
"""Sends a stage's request to each of some sites; yields the replies with their sites."""

_SPARE_BYTES = 1_000_000
"""What a reply may hold beside the masked update."""


@dataclass(frozen=True)
class SecureSum:
    """One round's way from trained sites to the mean of their updates."""

    ask: Ask
    drop: Callable[[str, str], None]
    """Names a site whose reply does not count, with the reason."""

    manifest: Manifest
    round_number: int

    def mean(self, model: Weights, counts: Mapping[str, int]) -> tuple[Weights, list[str]]:
        """The new mean model, and the sites that it is the mean of, by name.

        Args:
            model: The global model that the sites started from.
            counts: What each site that trained is weighted by.

        Raises:
            FederationError: If fewer sites than the threshold are left.
            PrivacyError: If the shares do not fit, or the sum is none of clipped updates.
        """
        session = secrets.token_hex(16)
        begin = KeyRequest(session=session)
        keys = dict(self._answers("keys", dict.fromkeys(sorted(counts), begin), PublicKeys))
        self._demand(keys)
        request = ShareRequest(session=session, keys=keys)
        sealed = self._sealed(dict.fromkeys(keys, request))
        self._demand(sealed)
        total, survivors = self._masked_sum(session, sealed, model)
        self._demand(survivors)
        dropped = sorted(sealed.keys() - set(survivors))
        unmask = UnmaskRequest(session=session, survivors=tuple(survivors), dropped=tuple(dropped))
        replies = dict(self._answers("unmask", dict.fromkeys(survivors, unmask), UnmaskReply))
        self._demand(replies)
        context = round_context(
            self.manifest.sha256, self.round_number, base_sha256=weights_sha256(model)
        )
        group = Group(session_context(context, session), keys, self._threshold)
        left = group.recover_masks(replies, survivors=survivors, dropped=dropped)
        n_weights = sum(array.size for array in model.values())
        difference = self._fixed_point(len(keys), n_weights=n_weights).decode(
            with_masks(total, left, sign=-1), count=sum(counts[site] for site in survivors)
        )
        return {name: _moved(array, difference[name]) for name, array in model.items()}, survivors

    def _sealed(self, requests: Mapping[str, ShareRequest]) -> dict[str, dict[str, str]]:
        """Shares by the site that sealed them and the one that may open them."""
        found = {}
        for site, reply in self._answers("shares", requests, ShareReply):
            if reply.shares.keys() == requests.keys() - {site}:
                found[site] = reply.shares
            else:
                self.drop(site, "shares: they are not for the other sites")
        return found

    def _masked_sum(
        self, session: str, sealed: Mapping[str, Mapping[str, str]], model: Weights
    ) -> tuple[Numbers, list[str]]:
        """The sum of the masked updates as they come, and whose they are."""
        requests = {
            receiver: MaskRequest(
                session=session,
                shares={site: sealed[site][receiver] for site in sealed if site != receiver},
            )
            for receiver in sorted(sealed)
        }
        total: Numbers = {name: np.zeros(a.shape, np.uint64) for name, a in model.items()}
        survivors = []
        for site, reply in self.ask("mask", requests):
            try:
                masked = _read_masked(reply, model)
            except FederationError as error:
                self.drop(site, f"mask: {error}")
                continue
            # Added modulo 2^64, in whatever order: the sum is exact.
            total = {name: np.asarray(total[name] + masked[name]) for name in total}
            survivors.append(site)
        return total, sorted(survivors)

    def _answers(
        self, stage: Stage, requests: Mapping[str, Settings], model: type[Reply]
    ) -> Iterator[tuple[str, Reply]]:
        """The sound replies of a stage."""
        for site, message in self.ask(stage, requests):
            if message.has_error():
                self.drop(site, f"{stage}: {failure(message.error.code)}")
                continue
            try:
                yield site, model.model_validate_json(read_body(message))
            except ValidationError:
                self.drop(site, f"{stage}: the reply is malformed")

    def _demand(self, sites: Mapping[str, object] | list[str]) -> None:
        """Refuse to go on with fewer sites than may be summed."""
        fewest = max(self._threshold, self.manifest.federation.minimum_sites)
        if len(sites) < fewest:
            raise FederationError(
                f"Round {self.round_number} has {len(sites)} sites left in secure aggregation, "
                f"expected at least {fewest}. What each of the others said stands in the log here "
                "and at the site; run again: finished rounds are kept."
            )

    def _fixed_point(self, n_sites: int, *, n_weights: int) -> FixedPoint:
        """How the sites count their updates."""
        rules, manifest = self.manifest.federation, self.manifest
        return FixedPoint(
            longest_update(manifest.privacy, n_weights=n_weights),
            rules.max_count(steps_per_round=manifest.steps_per_round),
            n_sites,
        )

    @property
    def _threshold(self) -> int:
        return self.manifest.privacy.threshold or 0


def _read_masked(reply: Message, model: Weights) -> Numbers:
    """A site's masked update, whose values say nothing but must have the model's shapes."""
    if reply.has_error():
        raise failure(reply.error.code)
    limit = 8 * sum(array.size for array in model.values()) + _SPARE_BYTES
    arrays = reply.content.array_records.get(ARRAYS)
    if arrays is None or content_bytes(reply.content) > limit:
        raise FederationError(f"the reply has no arrays, or is larger than {limit} bytes")
    try:
        masked = read_arrays(arrays)
    except ValueError:
        raise FederationError("the arrays are damaged") from None
    shapes = {name: (array.shape, np.dtype(np.uint64)) for name, array in model.items()}
    if {name: (array.shape, array.dtype) for name, array in masked.items()} != shapes:
        raise FederationError("the masked arrays are not of the model's names and shapes")
    return {name: array.astype(np.uint64, copy=False) for name, array in masked.items()}


def _moved(array: NDArray[np.generic], difference: NDArray[np.float64]) -> NDArray[np.generic]:
    """Weights moved by the mean update, in their own type; whole numbers to the nearest one."""
    value = array.astype(np.float64) + difference
    return np.asarray(np.rint(value) if array.dtype.kind in "iu" else value, dtype=array.dtype)
