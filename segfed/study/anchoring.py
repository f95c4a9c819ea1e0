"""Which training labels repeat the errors of a proposal, whether its reader saw it or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import get_args

from segfed.engine import Model, load_bundle, predict_label
from segfed.evaluation import proposal_errors
from segfed.phantom.recipe import truth_path
from segfed.protocol import Arm
from segfed.sites import LabelledCase, Site
from segfed.study.preflight import SiteLabels
from segfed.study.records import AnchoringRow
from segfed.study.registry import published_models
from segfed.study.run import StudyRun
from segfed.volumes import Volume, check_same_grid, read_channels, read_label, write_label

TRUTH = "truth"
"""The reference of synthetic cases, whose truth is known."""


def anchoring_rows(run: StudyRun) -> Iterator[AnchoringRow]:
    """The proposals' clear errors behind the labels of both arms, and which labels repeat them.

    Manual labels are held against a proposal that their readers never saw: the one that the same
    model made for the case in the other arm, or else one that it makes now. What is wrong is told
    by a label that somebody else drew by hand; by the truth, where the case is a phantom. A study
    without both arms has no rows.

    Raises:
        WeightsError: If a published model is damaged.
        VolumeError: If a label or image is missing or damaged.
    """
    arms = get_args(Arm)
    if not run.settings.compares or not set(arms) <= set(run.settings.arms):
        return
    for item in run.data.sites:
        proposer = _Proposer(run, item)
        for arm in arms:
            for labelled in item.train[arm]:
                yield from _rows(run, item.site, labelled, proposer=proposer)


def _rows(
    run: StudyRun, site: Site, labelled: LabelledCase, *, proposer: _Proposer
) -> Iterator[AnchoringRow]:
    """The rows of one label."""
    record = labelled.record
    reference = reference_by_another_hand(site, labelled)
    # Without a reference nothing is worth a prediction.
    proposal = proposer.proposal(labelled) if reference is not None else None
    model = record.model_sha256 if record.arm == "assisted" else proposer.sha256
    common = {
        "site": site.name,
        "case": labelled.case.case_id,
        "arm": record.arm,
        "reader": record.reader,
        "model_sha256": model or "",
        "reference": reference[0] if reference else "",
    }
    if reference is None or proposal is None:
        if reference is not None:
            common["model_sha256"] = ""
        yield AnchoringRow(**common, volume_mm3=None, agreement=None)
        return
    label = read_label(labelled.label_path)
    for name, volume in (("proposal", proposal), ("reference", reference[1])):
        check_same_grid(
            volume.grid, label.grid, name=f"{name} of {record.case_id}", reference="its label"
        )
    errors = proposal_errors(
        proposal.data[0],
        reference[1].data[0],
        label.data[0],
        spacing_mm=label.grid.spacing_mm,
        tolerance_mm=run.settings.evaluation.error_tolerance_mm,
    )
    for error in errors:
        yield AnchoringRow(**common, volume_mm3=error.volume_mm3, agreement=error.agreement)
    if not errors:
        yield AnchoringRow(**common, volume_mm3=None, agreement=None)


def reference_by_another_hand(site: Site, labelled: LabelledCase) -> tuple[str, Volume] | None:
    """Who says what is wrong in a case, and their label: never the label's own reader.

    Returns:
        The reader, or ``TRUTH`` for a phantom; None where nobody else drew the case by hand.

    Raises:
        VolumeError: If the label is missing or cannot be read.
    """
    case_id, ledger = labelled.case.case_id, site.ledger()
    truth = truth_path(site.folder, case_id)
    if site.settings.data != "real" and truth.exists():
        return TRUTH, read_label(truth)
    readers = dict.fromkeys(r.reader for r in ledger.records(case_id) if r.origin == "manual")
    for reader in readers:
        record = ledger.current(case_id, "manual", reader)
        if record is not None and reader != labelled.record.reader:
            return reader, read_label(ledger.label_path(record.label_sha256))
    return None


class _Proposer:
    """The model behind a site's assisted labels, which proposes for the manual ones as well."""

    def __init__(self, run: StudyRun, item: SiteLabels) -> None:
        assisted = [labelled.record for labelled in item.train["assisted"]]
        models = Counter(record.model_sha256 for record in assisted if record.model_sha256)
        self.sha256 = models.most_common(1)[0][0] if models else None
        self._shown: Mapping[str, str] = {
            record.case_id: record.proposal_sha256
            for record in assisted
            if record.proposal_sha256 and record.model_sha256 == self.sha256
        }
        self._run, self._site = run, item.site
        self._model: Model | None = None

    def proposal(self, labelled: LabelledCase) -> Volume | None:
        """What its reader saw, or for a manual label what they would have seen.

        None where there was no proposal, or none can be made: the model is no longer published at
        the site, or it has trained on the case.
        """
        record = labelled.record
        shown = record.proposal_sha256
        if record.arm == "manual":
            shown = self._shown.get(record.case_id)
        if shown is not None:
            return read_label(self._site.ledger().label_path(shown))
        return self._hidden(labelled) if record.arm == "manual" else None

    def _hidden(self, labelled: LabelledCase) -> Volume | None:
        """The model's proposal for a case that it never proposed for; kept in the run folder."""
        image = labelled.case.image_sha256
        published = next(
            (found for found in published_models(self._site) if found.sha256 == self.sha256), None
        )
        if published is None or published.lineage.saw(image):
            return None
        name = f"{image[:16]}-{published.sha256[:16]}.nii.gz"
        path = self._run.out / "hidden_proposals" / self._site.name / name
        if not path.exists():
            self._model = self._model or load_bundle(published.folder)
            volume = read_channels(labelled.case.channels)
            network, plan = self._model.network, self._model.plan
            write_label(predict_label([network], plan, volume, device=self._run.device), path)
        return read_label(path)
