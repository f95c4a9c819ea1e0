"""What the records of a run say, in sentences; the sheets of a model card are filled with them.

A fact is a function from the report to sentences. It yields none where the run has no record of the
matter, so that the sheets show it as missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from segfed.report.facts import data, results, training
from segfed.report.facts.wording import Report

FACTS: Mapping[str, Callable[[Report], Iterator[str]]] = {
    fact.__name__: fact
    for fact in (
        data.sites,
        data.case_counts,
        data.data_kind,
        data.modality,
        data.voxel_spacing,
        data.design_of_the_label_arms,
        data.labels_and_readers,
        data.reference,
        data.readers_of_the_test_labels,
        data.agreement_of_readers,
        data.repeated_errors_of_proposals,
        data.time_per_label,
        data.separation_by_image_hash,
        data.separation_by_patient,
        training.technology,
        training.preprocessing,
        training.network,
        training.initial_weights,
        training.training,
        training.choice_by_validation,
        training.ensemble,
        training.federation,
        training.privacy,
        training.software,
        training.hashes,
        training.protocol,
        results.question,
        results.finding,
        results.recorded_limits,
        results.metrics,
        results.intervals,
        results.results_over_all_sites,
        results.surface_and_distance,
        results.results_by_site,
        results.results_at_external_sites,
        results.worst_site,
        results.missed_structures,
        results.worst_cases,
        results.undefined_scores,
    )
}
"""Every fact by the name by which a sheet asks for it."""
