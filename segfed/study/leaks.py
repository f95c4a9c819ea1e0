"""Proposals that leak: a model that proposed labels for a case on which it had trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from segfed.sites import LabelledCase, Site
from segfed.study.registry import published_models


def proposal_leaks(site: Site, labelled: Sequence[LabelledCase], *, arm: str) -> Iterator[str]:
    """One sentence for each way in which the proposals behind some labels cannot be trusted.

    The lineage of every model published at the site lists the hashes of the images that it was
    trained on; a proposal for one of those images only repeats what a reader drew before.
    """
    lineages = {model.sha256: model.lineage for model in published_models(site)}
    leaked, unknown = [], set()
    for item in labelled:
        model = item.record.model_sha256
        if model is None:
            continue
        if model not in lineages:
            unknown.add(model)
        elif lineages[model].saw(item.case.image_sha256):
            leaked.append(item.case.case_id)
    if leaked:
        yield (
            f"Proposal leak at {site.name}: the {arm} labels of {', '.join(leaked)} began as "
            "proposals of a model that had trained on these very images. The comparison of label "
            "arms does not hold for them."
        )
    for model in sorted(unknown):
        yield (
            f"{site.name}: {arm} labels began as proposals of model {model[:12]}, which is not "
            "among the models published there. Whether it had trained on these images is unknown."
        )
