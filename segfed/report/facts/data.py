"""What the records say of participants, images, labels and splits."""

from __future__ import annotations

from collections.abc import Iterator

from segfed.report.facts.wording import Report, count, value_range
from segfed.report.text import joined, phrase


def sites(report: Report) -> Iterator[str]:
    """Who took part, and how."""
    for site in report["participants"]:
        role = "external: tested only" if site["external"] else "trained and tested"
        yield f"{site['name']}: {site['data']} data, {role}."


def case_counts(report: Report) -> Iterator[str]:
    """Cases of each site by use."""
    for site in report["participants"]:
        uses = [f"{n} training labels ({arm})" for arm, n in site["n_train"].items()]
        uses += [f"{site[f'n_{use}']} {use} cases" for use in ("validation", "test")]
        yield f"{site['name']}: {', '.join(uses)}."


def data_kind(report: Report) -> Iterator[str]:
    """Real, rendered or synthetic."""
    yield report["data"]["statement"]


def modality(report: Report) -> Iterator[str]:
    """Kind of images."""
    task = report["task"]
    yield f"{task['modality']}, channels: {joined(task['channels'])}."


def voxel_spacing(report: Report) -> Iterator[str]:
    """Voxel spacings of the sites' images."""
    for site in report["participants"]:
        if site["finest_axis_mm"] and site["coarsest_axis_mm"]:
            finest, coarsest = (
                value_range(site[f"{axis}_axis_mm"]) for axis in ("finest", "coarsest")
            )
            yield (
                f"{site['name']}: voxel spacing {finest} mm along the finest axis, {coarsest} mm "
                "along the coarsest."
            )


def design_of_the_label_arms(report: Report) -> Iterator[str]:
    """How cases were assigned to label arms."""
    if report["comparison"]:
        yield f"The arms were labelled in a {report['comparison']['design']} design."
    else:
        yield "Assisted labels are not compared with manual ones."


def labels_and_readers(report: Report) -> Iterator[str]:
    """Training labels, readers and origins of each arm."""
    for arm, found in report["effort"]["arms"].items():
        n_readers = sum(len(site["readers"]) for site in found["sites"].values())
        accepted = found["accepted_unchanged"]
        origin = (
            "all drawn without a proposal"
            if accepted is None
            else f"{found['n_with_proposal']} of them corrected from a model's proposal, which "
            f"was accepted unchanged in {100 * accepted:.0f} %"
        )
        yield f"{arm}: {count(found['n'], 'label')} by {count(n_readers, 'reader')}, {origin}."


def reference(report: Report) -> Iterator[str]:
    """What models are scored against."""
    yield (
        f"Labels drawn by hand of {count(report['reference']['n_cases'], 'test case')}; segfed "
        f"{report['methods']['versions']['segfed']} refuses test labels that began as a proposal."
    )


def readers_of_the_test_labels(report: Report) -> Iterator[str]:
    """How many people drew the reference."""
    n_readers = report["reference"]["n_readers"]
    if n_readers is not None:
        yield f"The test labels were drawn by {count(n_readers, 'reader')}."


def agreement_of_readers(report: Report) -> Iterator[str]:
    """How far readers agree who drew the same cases."""
    if report["agreement"]:
        yield report["agreement"]["sentence"]


def repeated_errors_of_proposals(report: Report) -> Iterator[str]:
    """Whether readers repeated the proposals' errors."""
    if report["anchoring"]:
        yield report["anchoring"]["sentence"]


def time_per_label(report: Report) -> Iterator[str]:
    """Time of assisted against manual labels."""
    ratio = report["effort"]["time_ratio"]
    if ratio:
        interval = phrase({**ratio, "mean": ratio["ratio"]}, digits=2)
        method = f", {ratio['method']}" if ratio["method"] else ""
        yield f"Seconds for an assisted label over those for a manual one: {interval}{method}."


def separation_by_image_hash(report: Report) -> Iterator[str]:
    """The proof by hash, or what speaks against it."""
    found = report["separation"]
    n_images, hashes = found["n_images"], found["sha256_of_hashes"]
    if found["in_both"]:
        yield (
            f"NOT SEPARATE: {count(len(found['in_both']), 'test image')} among those that models "
            f"learned from or were chosen by: {', '.join(found['in_both'])}."
        )
    if found["is_shown"]:
        yield (
            f"None of {n_images['test']} test images is among the {n_images['train']} that models "
            f"learned from or the {n_images['validation']} that they were chosen by, at any site, "
            "compared by SHA-256."
        )
        yield "SHA-256 over the sorted hashes: " + ", ".join(
            f"{use} {sha256}" for use, sha256 in hashes.items()
        )


def separation_by_patient(report: Report) -> Iterator[str]:
    """Counts of patients, which add up where none is in two splits."""
    counted = [site for site in report["participants"] if site["patients"]]
    for site in counted:
        splits, total = site["patients"]["splits"], site["patients"]["total"]
        parts = joined([f"{n} {split}" for split, n in splits.items()])
        n_twice = sum(splits.values()) - total
        verdict = (
            "none is in two splits" if n_twice == 0 else f"NOT SEPARATE: {n_twice} in two splits"
        )
        yield f"{site['name']}: {count(total, 'patient')} ({parts}); {verdict}."
    if counted:
        yield "Patients are told apart within a site: one who was seen at two sites is not noticed."
