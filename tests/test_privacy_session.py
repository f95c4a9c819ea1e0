"""What a site does, and never does twice, in secure aggregation."""

from __future__ import annotations

import stat

import numpy as np
import pytest

from segfed.errors import PrivacyError
from segfed.privacy import (
    KeyRequest,
    MaskRequest,
    PublicKeys,
    ShareReply,
    ShareRequest,
    SiteSession,
    UnmaskReply,
    UnmaskRequest,
)

SITES = ("a", "b", "c", "d")
FIRST, SECOND = "1" * 32, "2" * 32
UPDATE = {"w": np.array([0.5, -0.5], np.float32)}
STORED = b"the update, as stored"


def body(request):
    return request.model_dump_json().encode()


class Four:
    """Four sites, and a server that carries what they say."""

    def __init__(self, folder):
        self.folder = folder
        self.keys, self.sealed = {}, {}

    def site(self, name, number=1):
        """A site as a new process would make it: all that it knows lies in its file."""
        return SiteSession(
            path=self.folder / f"{name}.json",
            site=name,
            context=f"study/{number}",
            threshold=3,
            clip_norm=1.0,
            max_count=10,
        )

    def begin(self, session=FIRST, number=1, stored=STORED):
        request = body(KeyRequest(session=session))
        for name in SITES:
            reply = self.site(name, number).begin(request, round_number=number, update=stored)
            self.keys[name] = PublicKeys.model_validate_json(reply)

    def share(self, session=FIRST, number=1):
        request = body(ShareRequest(session=session, keys=self.keys))
        for name in SITES:
            reply = self.site(name, number).share(request)
            self.sealed[name] = ShareReply.model_validate_json(reply).shares

    def mask_request(self, name, session=FIRST):
        shares = {other: self.sealed[other][name] for other in SITES if other != name}
        return body(MaskRequest(session=session, shares=shares))

    def mask(self, name, session=FIRST, number=1):
        return self.site(name, number).mask(
            self.mask_request(name, session), update=UPDATE, stored=STORED, count=2
        )

    def until_masked(self, session=FIRST, number=1):
        self.begin(session, number)
        self.share(session, number)
        for name in SITES:
            self.mask(name, session, number)

    def unmask(self, name, survivors=SITES, dropped=(), session=FIRST, number=1):
        request = UnmaskRequest(session=session, survivors=survivors, dropped=dropped)
        return UnmaskReply.model_validate_json(self.site(name, number).unmask(body(request)))


@pytest.fixture
def four(tmp_path):
    return Four(tmp_path)


def test_a_retry_of_each_stage_gets_the_same_answer_from_a_new_process(four):
    four.begin()
    keys = dict(four.keys)
    four.begin()
    assert four.keys == keys
    four.share()
    sealed = dict(four.sealed)
    four.share()
    assert four.sealed == sealed  # shares are random: drawn once
    np.testing.assert_array_equal(four.mask("a")["w"], four.mask("a")["w"])
    assert four.unmask("a") == four.unmask("a")


def test_keys_are_fresh_in_every_session(four):
    four.begin()
    first = four.keys["a"]
    four.begin(SECOND)

    assert {first.encryption, first.mask} & {
        four.keys["a"].encryption,
        four.keys["a"].mask,
    } == set()


def test_secrets_are_readable_by_their_owner_alone_and_gone_when_used_up(four):
    four.begin()
    path = four.folder / "a.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "mask_key" in path.read_text()

    four.share()
    four.mask("a")
    four.unmask("a")

    assert "mask_key" not in path.read_text()
    with pytest.raises(PrivacyError, match="session"):
        four.mask("a")


def test_of_each_site_one_share_is_given_and_never_both(four):
    four.until_masked()

    reply = four.unmask("a", survivors=("a", "b", "c"), dropped=("d",))

    assert set(reply.seeds) == {"a", "b", "c"}
    assert set(reply.keys) == {"d"}
    with pytest.raises(PrivacyError, match="second list of survivors"):
        four.unmask("a")


@pytest.mark.parametrize(
    ("survivors", "dropped", "reason"),
    [
        (("a", "b", "c"), ("c", "d"), "each site of the session once"),
        (("a", "b", "c", "c"), ("d",), "each site of the session once"),
        (("a", "b", "c"), (), "each site of the session once"),
        (("a", "b", "c", "d"), ("e",), "each site of the session once"),
        (("a", "b"), ("c", "d"), "at least 3"),
        (("b", "c", "d"), ("a",), "this one among them"),
    ],
)
def test_lists_that_overlap_lack_a_site_or_leave_too_few_are_refused(
    four, survivors, dropped, reason
):
    four.until_masked()

    with pytest.raises(PrivacyError, match=reason):
        four.unmask("a", survivors, dropped)


def test_a_round_is_summed_again_only_for_the_same_survivors_and_update(four):
    four.until_masked()
    four.unmask("a", survivors=("a", "b", "c"), dropped=("d",))

    with pytest.raises(PrivacyError, match="another update"):
        four.site("a").begin(body(KeyRequest(session=SECOND)), round_number=1, update=b"other")
    four.until_masked(SECOND)
    with pytest.raises(PrivacyError, match="other sites than before"):
        four.unmask("a", session=SECOND)
    assert four.unmask("a", ("a", "b", "c"), ("d",), session=SECOND).keys.keys() == {"d"}


def test_a_round_before_the_last_one_is_not_summed(four):
    four.until_masked(number=2)

    with pytest.raises(PrivacyError, match="Round 1 was to be summed, after round 2"):
        four.begin(SECOND, number=1)


def test_a_new_round_is_free_to_have_other_survivors(four):
    four.until_masked()
    four.unmask("a", survivors=("a", "b", "c"), dropped=("d",))
    four.until_masked(SECOND, number=2)

    assert four.unmask("a", session=SECOND, number=2).keys == {}


def test_messages_of_another_session_or_stage_are_refused(four):
    four.begin()
    with pytest.raises(PrivacyError, match="another session"):
        four.share(SECOND)
    with pytest.raises(PrivacyError, match="not in was to be unmasked"):
        four.unmask("a")
    with pytest.raises(PrivacyError, match="malformed"):
        four.site("a").share(b'{"session": "x"}')


def without_own_key(keys):
    del keys["a"]


def with_a_copied_key(keys):
    keys["b"] = keys["b"].model_copy(update={"mask": keys["c"].mask})


def with_another_own_key(keys):
    keys["a"] = keys["a"].model_copy(update={"mask": "ab" * 32})


def with_two_alone(keys):
    del keys["c"], keys["d"]


def with_strangers(keys):
    for number in range(2):
        keys[f"x{number}"] = PublicKeys(
            encryption=f"{number}1" * 32, mask=f"{number}2" * 32, seed_commitment=f"{number}3" * 32
        )


@pytest.mark.parametrize(
    "change",
    [without_own_key, with_a_copied_key, with_another_own_key, with_two_alone, with_strangers],
)
def test_a_key_list_in_which_no_sum_can_hide_is_refused(four, change):
    # Of six sites the threshold 3 is only half: two groups could give away two sums.
    four.begin()
    change(four.keys)

    with pytest.raises(PrivacyError, match="gives nothing away"):
        four.site("a").share(body(ShareRequest(session=FIRST, keys=four.keys)))


def test_a_second_key_list_in_a_session_is_refused(four):
    four.begin()
    four.share()
    del four.keys["d"]

    with pytest.raises(PrivacyError, match="second key list"):
        four.site("a").share(body(ShareRequest(session=FIRST, keys=four.keys)))


def test_forged_shares_and_too_few_are_refused_before_anything_is_masked(four):
    four.begin()
    four.share()
    forged = MaskRequest(session=FIRST, shares={"b": "00" * 92, "c": "00" * 92})
    few = MaskRequest(session=FIRST, shares={"b": four.sealed["b"]["a"]})
    for request, reason in ((forged, "cannot be opened"), (few, "at least 2 other")):
        with pytest.raises(PrivacyError, match=reason):
            four.site("a").mask(body(request), update=UPDATE, stored=STORED, count=2)


def test_another_update_or_list_of_sites_gets_no_second_mask(four):
    four.begin()
    four.share()
    four.mask("a")
    shares = {other: four.sealed[other]["a"] for other in ("b", "c")}
    request = body(MaskRequest(session=FIRST, shares=shares))

    with pytest.raises(PrivacyError, match="second list of sites"):
        four.site("a").mask(request, update=UPDATE, stored=STORED, count=2)
    with pytest.raises(PrivacyError, match="second update"):
        four.site("a").mask(four.mask_request("a"), update=UPDATE, stored=b"other", count=2)
