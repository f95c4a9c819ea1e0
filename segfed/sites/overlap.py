"""The same scan at two sites, or in two splits: found by keyed hashes, without any image."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from segfed.errors import CaseError, ConfigError
from segfed.protocol import Split
from segfed.sites.keyed_scans import KeyedScan, KeyedScans

MINIMUM_SHARED_MARKS = 32
"""Fewer marks in common may be chance, whatever their share: one place has up to 16."""

MINIMUM_SHARE = 0.07
"""Smaller shares occur between scans of different patients; ``benchmarks/duplicates.py``."""


@dataclass(frozen=True)
class SameScan:
    """Two cases that seem to be one scan."""

    cases: tuple[tuple[str, int], tuple[str, int]]
    """Site and number of each."""

    splits: tuple[Split, Split]
    kind: Literal["same file", "near"]
    shared: float
    """Share of the marks of the scan with fewer of them which the other one has, too."""

    @property
    def is_across(self) -> bool:
        """Whether one is tested on and the other is not."""
        return (self.splits[0] == "test") != (self.splits[1] == "test")


def same_scans(sites: Sequence[KeyedScans]) -> tuple[SameScan, ...]:
    """Pairs of cases that seem to be the same scan, those across splits first.

    A mark that many scans have, such as one of an implant or of the scanner's table, tells nothing
    and does not count.

    Raises:
        ConfigError: If the files were made under different keys or versions, or two are of one
            site.
    """
    _check_comparable(sites)
    scans = {(of.site, scan.number): scan for of in sites for scan in of.scans}
    pairs = [_pair(scans, a, b, n) for (a, b), n in _shared_marks(scans).items()]
    found = [pair for pair in pairs if pair is not None]
    return tuple(sorted(found, key=lambda pair: (not pair.is_across, pair.cases)))


def require_separate(sites: Sequence[KeyedScans]) -> list[str]:
    """Refuse sites that test on a scan which another one, or they themselves, train on.

    Returns:
        A phrase for each other pair that seems to be the same scan: it counts twice.

    Raises:
        CaseError: If one scan of a pair is tested on and the other is not.
        ConfigError: If the files cannot be compared; see `same_scans`.
    """
    pairs = same_scans(sites)
    across = [pair for pair in pairs if pair.is_across]
    if across:
        raise CaseError(
            f"Found {len(across)} scan(s) in testing and elsewhere: "
            f"{'; '.join(describe(across[:5], _by_number))}; expected each in one place, or the "
            "test flatters the model. Let one of the two sites take its case out: the number is "
            "the case's line in its cases.csv, below the header."
        )
    return list(describe(pairs, _by_number))


def _by_number(site: str, number: int) -> str:
    """A case as those may name it who hold no site's list."""
    return f"{site} no. {number}"


def _pair(
    scans: dict[tuple[str, int], KeyedScan], a: tuple[str, int], b: tuple[str, int], n_shared: int
) -> SameScan | None:
    """What two scans are to each other; None where they are different ones."""
    one, other = scans[a], scans[b]
    splits = (one.split, other.split)
    if one.image == other.image:
        return SameScan((a, b), splits, "same file", 1.0)
    share = n_shared / max(1, min(len(one.marks), len(other.marks)))
    if n_shared < MINIMUM_SHARED_MARKS or share < MINIMUM_SHARE:
        return None
    return SameScan((a, b), splits, "near", share)


def _shared_marks(
    scans: dict[tuple[str, int], KeyedScan],
) -> Counter[tuple[tuple[str, int], tuple[str, int]]]:
    """How many telling marks two scans share; a pair of equal files is there in any case."""
    holders: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for key, scan in scans.items():
        for mark in {*scan.marks, f"image/{scan.image}"}:
            holders[mark].append(key)
    commonest = max(4, len(scans) // 50)
    shared: Counter[tuple[tuple[str, int], tuple[str, int]]] = Counter()
    for mark, of in holders.items():
        if len(of) <= commonest or mark.startswith("image/"):
            shared.update(combinations(of, 2))
    return shared


def _check_comparable(sites: Sequence[KeyedScans]) -> None:
    """Refuse what would silently compare nothing."""
    for name, noun in (("key_id", "key"), ("version", "version"), ("task", "task")):
        found = {str(getattr(of, name)) for of in sites}
        if len(found) > 1:
            raise ConfigError(
                f"The files of {', '.join(of.site for of in sites)} are of different {noun}s: "
                f"{', '.join(sorted(found))}; expected the same one, or nothing would be found. "
                "Let every site make its file anew with the shared key and the same segfed."
            )
    twice = [name for name, n in Counter(of.site for of in sites).items() if n > 1]
    if twice:
        raise ConfigError(
            f"Several files are of site {', '.join(twice)}; expected one of each. Leave one out."
        )


def describe(pairs: Iterable[SameScan], name: Callable[[str, int], str]) -> Iterator[str]:
    """One phrase for each pair, with cases as the caller may name them."""
    for pair in pairs:
        kind = "the same file as" if pair.kind == "same file" else "very like"
        share = "" if pair.kind == "same file" else f", {100 * pair.shared:.0f} % of marks shared"
        yield (
            f"{name(*pair.cases[0])} ({pair.splits[0]}) is {kind} {name(*pair.cases[1])} "
            f"({pair.splits[1]}){share}"
        )
