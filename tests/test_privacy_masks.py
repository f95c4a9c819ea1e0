"""Keys, shares and masks."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from segfed.errors import PrivacyError
from segfed.privacy import Group, UnmaskReply, with_masks
from segfed.privacy.masks import key_share, new_secrets, seed_share

SITES = ("east", "north", "south", "west")


def group_of(own, *, context="study/1/s", threshold=3):
    return Group(context, {site: found.public for site, found in own.items()}, threshold)


@pytest.fixture(scope="module")
def own():
    """The secrets of four sites."""
    return {site: new_secrets() for site in SITES}


def numbers(value=0):
    return {
        "a": np.full((2, 3), value, np.uint64),
        "b": np.array(value, np.uint64),  # no dimensions
    }


def masked(group, own, site, *, others, value):
    """What a site uploads."""
    masks = [
        (bytes.fromhex(own[site].seed), 1),
        *group.pair_masks(own[site].mask_key, site=site, others=others),
    ]
    return with_masks(numbers(value), masks)


def unmask_replies(group, own, *, survivors, dropped, from_sites):
    """What some sites give away."""
    shares = {site: group.split(own[site]) for site in own}
    return {
        giver: UnmaskReply(
            seeds={site: seed_share(shares[site][giver]) for site in survivors},
            keys={site: key_share(shares[site][giver]) for site in dropped},
        )
        for giver in from_sites
    }


@pytest.mark.parametrize("dropped", [[], ["north"], ["west"]])
@pytest.mark.parametrize("givers", [3, 4])
def test_the_sum_of_the_survivors_comes_out_whoever_dropped_out(own, dropped, givers):
    group = group_of(own)
    survivors = [site for site in SITES if site not in dropped]
    uploads = [
        masked(group, own, site, others=[s for s in SITES if s != site], value=10**index)
        for index, site in enumerate(SITES)
        if site in survivors
    ]
    total = {name: sum((u[name] for u in uploads), np.uint64(0)) for name in ("a", "b")}
    replies = unmask_replies(
        group, own, survivors=survivors, dropped=dropped, from_sites=survivors[:givers]
    )

    masks = group.recover_masks(replies, survivors=survivors, dropped=dropped)
    found = with_masks({name: np.asarray(array) for name, array in total.items()}, masks, sign=-1)

    expected = sum(10**index for index, site in enumerate(SITES) if site in survivors)
    np.testing.assert_array_equal(found["a"], numbers(expected)["a"])
    assert found["b"] == expected
    assert found["b"].shape == ()


def test_an_upload_looks_random_and_its_caller_s_numbers_stay_as_they_were(own):
    plain = {"w": np.zeros(50_000, np.uint64)}

    found = with_masks(plain, [(bytes.fromhex(own["east"].seed), 1)])["w"]

    # Mean of 50 000 uniform numbers: 2^63 with standard error 2^64 / sqrt(12 x 50 000).
    assert abs(found.astype(np.float64).mean() - 2.0**63) < 5 * 2.0**64 / 600_000**0.5
    assert not plain["w"].any()


def test_a_mask_is_the_key_stream_of_chacha20_over_all_arrays_by_name():
    seed = bytes(range(32))

    found = with_masks({"b": np.zeros(1, np.uint64), "a": np.zeros(2, np.uint64)}, [(seed, 1)])

    stream = Cipher(ChaCha20(seed, bytes(16)), mode=None).encryptor().update(bytes(24))
    np.testing.assert_array_equal(found["a"], np.frombuffer(stream[:16], "<u8"))
    np.testing.assert_array_equal(found["b"], np.frombuffer(stream[16:], "<u8"))


def test_two_sites_share_a_mask_that_changes_with_the_session(own):
    group, other = group_of(own), group_of(own, context="study/1/t")

    east = group.pair_masks(own["east"].mask_key, site="east", others=["west"])[0]
    west = group.pair_masks(own["west"].mask_key, site="west", others=["east"])[0]

    assert east == (west[0], 1)
    assert west[1] == -1
    assert other.pair_masks(own["east"].mask_key, site="east", others=["west"])[0] != east


def test_a_sealed_share_opens_for_its_receiver_alone(own):
    group = group_of(own)
    sealed = group.seal("ab" * 64, own["east"], sender="east", receiver="west")

    assert group.open(sealed, own["west"], sender="east", receiver="west") == "ab" * 64
    with pytest.raises(PrivacyError, match="shares of site east cannot be opened"):
        group.open(sealed, own["north"], sender="east", receiver="north")


def test_shares_that_are_forged_replayed_or_of_another_key_list_do_not_open(own):
    group = group_of(own)
    sealed = group.seal("ab" * 64, own["east"], sender="east", receiver="west")
    flipped = sealed[:-1] + ("0" if sealed[-1] != "0" else "1")
    for changed, other in (
        (flipped, group),
        (sealed, group_of(own, context="study/2/s")),
        (sealed, group_of(own | {"south": new_secrets()})),
    ):
        with pytest.raises(PrivacyError, match="cannot be opened"):
            other.open(changed, own["west"], sender="east", receiver="west")
    with pytest.raises(PrivacyError, match="cannot be opened"):
        group.open(sealed, own["west"], sender="south", receiver="west")


def test_one_forged_share_among_enough_honest_ones_is_left_out(own):
    group = group_of(own)
    replies = unmask_replies(group, own, survivors=SITES, dropped=[], from_sites=SITES)
    forged = replies["east"].model_copy(update={"seeds": dict.fromkeys(SITES, "00" * 32)})

    masks = group.recover_masks(replies | {"east": forged}, survivors=SITES, dropped=[])

    assert masks == [(bytes.fromhex(own[site].seed), 1) for site in SITES]


def test_too_few_or_forged_shares_give_no_secret(own):
    group = group_of(own)
    replies = unmask_replies(
        group, own, survivors=SITES[:3], dropped=["west"], from_sites=SITES[:3]
    )
    few = {site: replies[site] for site in SITES[:2]}
    forged = replies | {"east": replies["east"].model_copy(update={"keys": {"west": "00" * 32}})}
    for found in (few, forged):
        with pytest.raises(PrivacyError, match="expected 3 that fit"):
            group.recover_masks(found, survivors=SITES[:3], dropped=["west"])


def test_fewer_shares_than_the_threshold_say_nothing_of_a_secret(own):
    # Two splits of one secret have nothing in common, and differ from it.
    group = group_of(own)
    first, second = group.split(own["east"]), group.split(own["east"])

    assert all(first[site] != second[site] for site in SITES)
    assert own["east"].seed not in {seed_share(share) for share in first.values()}


def test_a_public_key_that_makes_secrets_guessable_is_refused(own):
    weak = own["west"].public.model_copy(update={"encryption": "00" * 32})
    keys = {site: found.public for site, found in own.items()} | {"west": weak}

    with pytest.raises(PrivacyError, match="guess"):
        Group("c", keys, 3).seal("ab" * 64, own["east"], sender="east", receiver="west")
