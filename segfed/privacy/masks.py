"""Masks that cancel in a sum, and the shares that take off those that do not.

The protocol of Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine
Learning", CCS 2017, with every site the neighbour of every other one. Keys are X25519, derived
with HKDF-SHA256; masks are ChaCha20 key streams, read as integers modulo 2^64; shares are
Shamir's over GF(2^128), sealed with ChaCha20-Poly1305. The primitives are those of
``cryptography`` and PyCryptodome.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from Crypto.Protocol.SecretSharing import Shamir
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from segfed.errors import PrivacyError
from segfed.privacy.fixed_point import Numbers
from segfed.privacy.stages import KeyList, PublicKeys, UnmaskReply, key_list_sha256
from segfed.settings import Settings

_KEY_BYTES, _NONCE_BYTES, _HALF = 32, 12, 16
_PIECE = 2**18
# Enough to find honest shares among those of a few dishonest sites.
_MOST_COMBINATIONS = 1000


class Secrets(Settings):
    """A site's secrets of one session, hexadecimal."""

    encryption_key: str
    mask_key: str
    seed: str

    @property
    def public(self) -> PublicKeys:
        """What may be shown of them."""
        return PublicKeys(
            encryption=_public(bytes.fromhex(self.encryption_key)),
            mask=_public(bytes.fromhex(self.mask_key)),
            seed_commitment=_commitment(bytes.fromhex(self.seed)),
        )


def new_secrets() -> Secrets:
    """Fresh secrets from the operating system's generator."""
    encryption_key, mask_key, seed = (secrets.token_hex(_KEY_BYTES) for _ in range(3))
    return Secrets(encryption_key=encryption_key, mask_key=mask_key, seed=seed)


def seed_share(share: str) -> str:
    """The part of a share that belongs to the seed of its owner's own mask."""
    return share[: 2 * _KEY_BYTES]


def key_share(share: str) -> str:
    """The part of a share that belongs to its owner's mask key."""
    return share[2 * _KEY_BYTES :]


@dataclass(frozen=True)
class Group:
    """The sites of a session: what every key of it is bound to."""

    context: str
    """Names study, round and session."""

    keys: KeyList
    threshold: int
    """Shares that recover a secret."""

    @property
    def sites(self) -> list[str]:
        """In the order in which their shares are counted."""
        return sorted(self.keys)

    def split(self, own: Secrets) -> dict[str, str]:
        """A share of a site's seed and one of its mask key for each site, itself included.

        Every call draws new shares, so a site calls it once a session.
        """
        parts = zip(self.sites, self._halves(own.seed), self._halves(own.mask_key), strict=True)
        return {site: (seed + key).hex() for site, seed, key in parts}

    def seal(self, share: str, own: Secrets, *, sender: str, receiver: str) -> str:
        """A share that only its receiver can open."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        cipher = ChaCha20Poly1305(self._sealing_key(own, sender, receiver, other=receiver))
        return (nonce + cipher.encrypt(nonce, bytes.fromhex(share), self._binding)).hex()

    def open(self, sealed: str, own: Secrets, *, sender: str, receiver: str) -> str:
        """A share that another site sealed.

        Raises:
            PrivacyError: If it was forged, or sealed for another site, session or key list.
        """
        content = bytes.fromhex(sealed)
        cipher = ChaCha20Poly1305(self._sealing_key(own, sender, receiver, other=sender))
        try:
            return cipher.decrypt(
                content[:_NONCE_BYTES], content[_NONCE_BYTES:], self._binding
            ).hex()
        except InvalidTag:
            raise PrivacyError(
                f"The shares of site {sender} cannot be opened; expected some that it sealed for "
                f"{receiver} in this session. The server or the way there changed them, or showed "
                "the sites different keys: ask who runs the server."
            ) from None

    def pair_masks(
        self, mask_key: str, *, site: str, others: Iterable[str]
    ) -> list[tuple[bytes, int]]:
        """Seeds and signs of the masks that a site has in common with others.

        The site that comes first by name adds, the other one subtracts.
        """
        return [
            (
                self._derived(mask_key, self.keys[other].mask, "mask", *sorted((site, other))),
                1 if site < other else -1,
            )
            for other in others
        ]

    def recover_masks(
        self,
        replies: Mapping[str, UnmaskReply],
        *,
        survivors: Sequence[str],
        dropped: Sequence[str],
    ) -> list[tuple[bytes, int]]:
        """Seeds and signs of all masks that are left on the sum of the survivors' updates.

        Args:
            replies: What each site that still answers gave away.
            survivors: Sites whose masked update is in the sum.
            dropped: Sites whose masks others used, but whose update is not.

        Raises:
            PrivacyError: If too few shares came, or they fit together to no secret of a site.
        """
        masks = []
        for site in survivors:
            shares = {name: reply.seeds.get(site) for name, reply in replies.items()}
            commitment = self.keys[site].seed_commitment
            masks.append((self._recover(site, shares, shows=_commitment, expected=commitment), 1))
        for site in dropped:
            shares = {name: reply.keys.get(site) for name, reply in replies.items()}
            key = self._recover(site, shares, shows=_public, expected=self.keys[site].mask)
            # What each survivor has of the pair is the opposite of what the dropped one would have.
            pairs = self.pair_masks(key.hex(), site=site, others=survivors)
            masks += [(seed, -sign) for seed, sign in pairs]
        return masks

    def _recover(
        self,
        site: str,
        shares: Mapping[str, str | None],
        *,
        shows: Callable[[bytes], str],
        expected: str,
    ) -> bytes:
        """A site's secret from the shares of others, whichever of them are honest."""
        numbers = {name: index for index, name in enumerate(self.sites, start=1)}
        known = [(numbers[name], bytes.fromhex(share)) for name, share in shares.items() if share]
        tries = itertools.combinations(sorted(known), self.threshold)
        for chosen in itertools.islice(tries, _MOST_COMBINATIONS):
            secret = b"".join(
                Shamir.combine([(number, share[part]) for number, share in chosen], ssss=False)
                for part in (slice(_HALF), slice(_HALF, None))
            )
            if shows(secret) == expected:
                return secret
        raise PrivacyError(
            f"{len(known)} shares of site {site} came, expected {self.threshold} that fit to what "
            "it announced. Too many sites dropped out, or some sent forged shares; run the round "
            "again."
        )

    def _halves(self, secret: str) -> list[bytes]:
        """Shares of a secret of 32 bytes, one a site; the scheme takes 16 bytes at a time."""
        content = bytes.fromhex(secret)
        halves = [
            Shamir.split(self.threshold, len(self.keys), part, ssss=False)
            for part in (content[:_HALF], content[_HALF:])
        ]
        return [first + second for (_, first), (_, second) in zip(*halves, strict=True)]

    def _sealing_key(self, own: Secrets, sender: str, receiver: str, *, other: str) -> bytes:
        """The key of what one site seals for another; both can derive it."""
        public = self.keys[other].encryption
        return self._derived(own.encryption_key, public, "seal", sender, receiver)

    @property
    def _binding(self) -> bytes:
        return key_list_sha256(self.keys).encode()

    def _derived(self, private: str, public: str, *purpose: str) -> bytes:
        """A key that two sites share for one purpose in this session."""
        key = X25519PrivateKey.from_private_bytes(bytes.fromhex(private))
        try:
            shared = key.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(public)))
        except ValueError:
            raise PrivacyError(
                f"A public key of {' and '.join(purpose[1:])} lets anybody guess the common "
                "secret; expected a key that was drawn at random. Ask who runs the server."
            ) from None
        # Names hold no NUL, so that no two purposes read the same.
        info = "\0".join((self.context, *purpose)).encode()
        return HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=info).derive(shared)


def with_masks(numbers: Numbers, masks: Iterable[tuple[bytes, int]], *, sign: int = 1) -> Numbers:
    """The numbers with all masks added, or subtracted where ``sign`` is -1, modulo 2^64."""
    result = {name: numbers[name].copy() for name in sorted(numbers)}
    for seed, own_sign in masks:
        stream = Cipher(ChaCha20(seed, bytes(16)), mode=None).encryptor()
        for array in result.values():
            flat = array.reshape(-1)
            for start in range(0, flat.size, _PIECE):
                part = flat[start : start + _PIECE]
                mask = np.frombuffer(stream.update(bytes(part.nbytes)), dtype="<u8")
                if own_sign * sign > 0:
                    part += mask
                else:
                    part -= mask
    return result


def _public(private: bytes) -> str:
    """The public key of an X25519 private key, hexadecimal."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw().hex()


def _commitment(seed: bytes) -> str:
    """A hash from which nobody finds the seed of 32 random bytes."""
    return hashlib.sha256(b"segfed mask seed" + seed).hexdigest()
