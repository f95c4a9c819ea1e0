"""A site's part in secure aggregation: its secrets, and what it must never do twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from segfed.errors import PrivacyError
from segfed.files import sha256_bytes
from segfed.privacy.fixed_point import Arrays, FixedPoint, Numbers
from segfed.privacy.masks import Group, Secrets, key_share, new_secrets, seed_share, with_masks
from segfed.privacy.stages import (
    KeyList,
    KeyRequest,
    MaskRequest,
    ShareReply,
    ShareRequest,
    UnmaskReply,
    UnmaskRequest,
)
from segfed.privacy.state import SessionState, read_state, write_state
from segfed.settings import Settings

Request = TypeVar("Request", bound=Settings)


@dataclass(frozen=True)
class SiteSession:
    """One site's answers in the four stages of a round.

    Each stage answers one request; the same request again gets the same answer, so that retries
    and restarts are harmless, and any other one is refused: two sums over different sites would
    differ by somebody's update. For the same reason a round that was summed may be summed again,
    after a server lost the result, only of the same update and for the same survivors.
    """

    path: Path
    """The file of the state; only its owner may read it."""

    site: str
    context: str
    """Names study, round and the model that the update starts from."""

    threshold: int
    """Sites that must be left in every sum."""

    clip_norm: float
    max_count: int
    """Of the study, for all sites: they decide how finely updates are counted."""

    def begin(self, body: bytes, *, round_number: int, update: bytes) -> bytes:
        """Stage 1: this site's public keys for a new session.

        Args:
            body: A ``KeyRequest``.
            round_number: Must not be below the last one.
            update: The clipped update that will be masked, as the site stored it.

        Raises:
            PrivacyError: If the request is malformed, or the round is over.
        """
        request = _parsed(body, KeyRequest)
        found, digest = read_state(self.path), sha256_bytes(update)
        if found is not None and found.session == request.session and found.round == round_number:
            if found.secrets is None:
                raise _refusal("A session that is over was to begin again", "a new session")
            return found.secrets.public.model_dump_json().encode()
        if found is not None and round_number < found.round:
            raise _refusal(
                f"Round {round_number} was to be summed, after round {found.round}",
                "rounds in order; a study that is to be repeated needs another name or seed",
            )
        released = found.released if found is not None and found.round == round_number else ()
        if found is not None and released and found.update_sha256 != digest:
            raise _refusal(
                f"Round {round_number} was to be summed again with another update of this site",
                "the one that is in the sum already: labels and weights must be as they were",
            )
        own = new_secrets()
        write_state(
            self.path,
            SessionState(
                round=round_number,
                update_sha256=digest,
                released=released,
                session=request.session,
                secrets=own,
            ),
        )
        return own.public.model_dump_json().encode()

    def share(self, body: bytes) -> bytes:
        """Stage 2: this site's secrets in shares, sealed for the others.

        Raises:
            PrivacyError: If the request is malformed, or the key list is not one that a sum can be
                hidden in.
        """
        request = _parsed(body, ShareRequest)
        state, own = self._state(request.session)
        digest = sha256_bytes(body)
        if state.share_reply is not None:
            _same(digest, state.share_request, "key list")
            return state.share_reply.model_dump_json().encode()
        n_sites = len(request.keys)
        n_keys = len({key for keys in request.keys.values() for _, key in keys})
        if request.keys.get(self.site) != own.public or n_keys < 3 * n_sites:
            raise _refusal(
                "The key list lacks this site's keys, or holds one key twice",
                "the keys that each site sent",
            )
        if not self.threshold <= n_sites < 2 * self.threshold:
            raise _refusal(
                f"{n_sites} sites take part",
                f"{self.threshold} to {2 * self.threshold - 1}, of which the threshold "
                f"{self.threshold} is more than half",
            )
        group = self._group(request.session, request.keys)
        shares = group.split(own)
        reply = ShareReply(
            shares={
                site: group.seal(share, own, sender=self.site, receiver=site)
                for site, share in shares.items()
                if site != self.site
            }
        )
        write_state(
            self.path,
            state.model_copy(
                update={
                    "keys": request.keys,
                    "share_request": digest,
                    "share_reply": reply,
                    "shares": {self.site: shares[self.site]},
                }
            ),
        )
        return reply.model_dump_json().encode()

    def mask(self, body: bytes, *, update: Arrays, stored: bytes, count: int) -> Numbers:
        """Stage 3: the update times its count, under masks.

        Args:
            body: A ``MaskRequest``.
            update: The clipped update.
            stored: Its bytes, whose hash ``begin`` took down.
            count: What the update is weighted by.

        Raises:
            PrivacyError: If the request is malformed, shares are forged, too few sites take part,
                or the update is not the one that the session began with.
        """
        request = _parsed(body, MaskRequest)
        state, own = self._state(request.session)
        _same(sha256_bytes(stored), state.update_sha256, "update")
        others = sorted(request.shares)
        if not set(others) <= state.keys.keys() - {self.site} or len(others) + 1 < self.threshold:
            raise _refusal(
                f"Shares of {', '.join(others) or 'nobody'} came",
                f"those of at least {self.threshold - 1} other sites of the key list",
            )
        digest, group = sha256_bytes(body), self._group(request.session, state.keys)
        if state.mask_request:
            _same(digest, state.mask_request, "list of sites")
        else:
            opened = {
                site: group.open(sealed, own, sender=site, receiver=self.site)
                for site, sealed in request.shares.items()
            }
            shares = state.shares | opened
            write_state(
                self.path, state.model_copy(update={"mask_request": digest, "shares": shares})
            )
        fixed = FixedPoint(self.clip_norm, self.max_count, len(state.keys))
        masks = [
            (bytes.fromhex(own.seed), 1),
            *group.pair_masks(own.mask_key, site=self.site, others=others),
        ]
        return with_masks(fixed.encode(update, count=count), masks)

    def unmask(self, body: bytes) -> bytes:
        """Stage 4: for each site one share, of its seed or of its mask key and never of both.

        The site's own secrets are deleted: this is the last that the session needs of them.

        Raises:
            PrivacyError: If the request is malformed, the lists overlap or are not the session's,
                too few sites survived, or others than in an earlier sum of the round.
        """
        request = _parsed(body, UnmaskRequest)
        state = read_state(self.path)
        if state is None or state.session != request.session or not state.mask_request:
            raise _refusal("A session that this site is not in was to be unmasked", "its own")
        digest = sha256_bytes(body)
        if state.unmask_reply is not None:
            _same(digest, state.unmask_request, "list of survivors")
            return state.unmask_reply.model_dump_json().encode()
        survivors, dropped = set(request.survivors), set(request.dropped)
        listed = [*request.survivors, *request.dropped]
        if len(listed) != len(survivors | dropped) or survivors | dropped != state.shares.keys():
            raise _refusal(
                f"{len(survivors)} survivors and {len(dropped)} dropped sites were listed",
                "each site of the session once, in one of the lists",
            )
        if self.site not in survivors or len(survivors) < self.threshold:
            raise _refusal(
                f"A sum over {len(survivors)} sites was to be unmasked",
                f"at least {self.threshold}, this one among them",
            )
        if state.released and survivors != set(state.released):
            raise _refusal(
                "A round was to be summed again for other sites than before",
                f"{', '.join(state.released)}: two sums differ by somebody's update",
            )
        reply = UnmaskReply(
            seeds={site: seed_share(state.shares[site]) for site in sorted(survivors)},
            keys={site: key_share(state.shares[site]) for site in sorted(dropped)},
        )
        write_state(
            self.path,
            state.model_copy(
                update={
                    "secrets": None,
                    "released": tuple(sorted(survivors)),
                    "unmask_request": digest,
                    "unmask_reply": reply,
                    "share_reply": None,
                    "shares": {},
                }
            ),
        )
        return reply.model_dump_json().encode()

    def _group(self, session: str, keys: KeyList) -> Group:
        return Group(session_context(self.context, session), keys, self.threshold)

    def _state(self, session: str) -> tuple[SessionState, Secrets]:
        """The state of a session that is under way, and its secrets."""
        state = read_state(self.path)
        if state is None or state.session != session or state.secrets is None:
            raise _refusal("A message of another session came", "the one that is under way")
        return state, state.secrets


def round_context(manifest_sha256: str, round_number: int, *, base_sha256: str) -> str:
    """What a round's sums are bound to.

    The model is part of it: were the others given one that teaches nothing, the sum would be the
    update of the one site that got the real model. So keys and masks of sites with other models do
    not fit together.

    Args:
        manifest_sha256: Of the study.
        round_number: Counted from 1.
        base_sha256: Of the model that the sites were given, as safetensors.
    """
    return f"{manifest_sha256}/{round_number}/{base_sha256}"


def session_context(study: str, session: str) -> str:
    """What all keys of a session are bound to."""
    return f"{study}/{session}"


def _parsed(body: bytes, model: type[Request]) -> Request:
    """A stage's request."""
    try:
        return model.model_validate_json(body)
    except ValidationError:
        raise _refusal("A malformed request came", f"a {model.__name__}") from None


def _same(found: str, expected: str, what: str) -> None:
    """Refuse what differs from what was answered before."""
    if found != expected:
        raise _refusal(f"A second {what} came in one session", f"one {what} for all")


def _refusal(found: str, expected: str) -> PrivacyError:
    """The reason, for the site's log."""
    return PrivacyError(
        f"{found}; expected {expected}. This site gives nothing away; the server may begin "
        "another session."
    )
