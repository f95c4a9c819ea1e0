"""The site folder as MONAI Label sees it: cases to read, labels to submit, nothing to overwrite."""

# ruff: noqa: ARG002 -- the signatures are MONAI Label's

from __future__ import annotations

import io
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from fastapi import HTTPException
from monailabel.interfaces.datastore import DefaultLabelTag

from label_app.answers import explaining
from label_app.read_only import ReadOnlyDatastore
from label_app.site_now import SiteNow
from label_app.submission import submit_upload
from label_app.worklist import offered_cases, visible_arm, visible_record
from segfed.errors import CaseError
from segfed.files import sha256_file
from segfed.protocol import Arm
from segfed.sites import Case, LabelRecord, ReadingEvent, Site, check_intact

_FINAL = DefaultLabelTag.FINAL.value


class SiteDatastore(ReadOnlyDatastore):
    """The site as the reader who asks may see it.

    It owns no file and keeps in memory only the site's settings and list of cases, until they
    change, and which images it found damaged: labels go to the site's ledger. So a case that is
    imported while the server runs appears by itself, and a server that is killed has nothing to
    lose. Whatever MONAI Label could otherwise add, change or remove is refused.
    """

    def __init__(self, site_folder: Path, *, reader: Callable[[], str]) -> None:
        """Open a site.

        Args:
            site_folder: The site.
            reader: Says whose request is being answered.
        """
        self.site_folder = site_folder
        self._reader = reader
        self._site_now = SiteNow(site_folder)
        self._damaged: dict[str, _FileStates] = {}
        self._saved: ContextVar[LabelRecord | None] = ContextVar("saved", default=None)

    @property
    def reader(self) -> str:
        """Whose request is being answered."""
        return self._reader()

    @property
    def site(self) -> Site:
        """The site as it is now."""
        return self._site_now()

    def case(self, case_id: str) -> Case:
        """A case by its id, which is the only way in which a request can name an image.

        Raises:
            HTTPException: 404 if the site has no such case.
        """
        try:
            return self.site.case(case_id)
        except CaseError as error:
            raise HTTPException(404, str(error)) from error

    def arm(self, case_id: str) -> Arm | None:
        """What the reader may see of a case; with ``manual`` no proposal."""
        return visible_arm(self.site, self.reader, case_id, now=datetime.now(UTC))

    def open_case(self, case_id: str) -> None:
        """Note that the reader opens a case.

        Raises:
            HTTPException: 422 with what is wrong if its image cannot be worked on.
        """
        with explaining(self.site_folder):
            check_intact(self.case(case_id))
        self._damaged.pop(case_id, None)
        self._note(case_id, ReadingEvent(datetime.now(UTC), "opened"))

    def left_open(self) -> frozenset[str]:
        """Cases that the reader opened lately and has not submitted; others do not get them."""
        site = self.site
        lease = timedelta(hours=site.settings.reading.lease_hours)
        return site.ledger().left_open(self.reader, since=datetime.now(UTC) - lease)

    def set_aside(self, case_id: str) -> bool:
        """Offer a damaged case only after all others, until its files change.

        Returns:
            False if the case was set aside before: no sound one is left.
        """
        was_aside = self._is_aside(case_id)
        self._damaged[case_id] = _file_states(self.case(case_id))
        return not was_aside

    def note_proposal(
        self,
        case_id: str,
        *,
        proposal_sha256: str,
        model_sha256: str,
        kind: Literal["proposed", "clicked"] = "proposed",
    ) -> None:
        """Note that the reader is about to see a proposal, or what a model made of their clicks."""
        self._note(
            case_id,
            ReadingEvent(datetime.now(UTC), kind, proposal_sha256, model_sha256),
        )

    def shown_proposal(self, case_id: str) -> str | None:
        """Hash of what a model last showed the reader of a case since it was opened."""
        for event in reversed(self.site.ledger().events(self.reader, case_id)):
            if event.kind == "opened":
                break
            return event.proposal_sha256
        return None

    def last_record(self, case_id: str) -> LabelRecord | None:
        """The label of a case that the request being answered has saved; None if it saved none.

        The reader's newest label may be another one: of two that are saved at once, the later.
        """
        record = self._saved.get()
        return record if record is not None and record.case_id == case_id else None

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        """Check a submitted label, infer its origin, and record both; returns the case's id.

        Raises:
            HTTPException: 404 for an unknown case, 422 with the reason for a label that cannot
                be accepted; the earlier label then stays what it was.
        """
        upload = Path(label_filename)
        try:
            if label_tag != _FINAL:
                raise HTTPException(
                    422,
                    f"Found a label with the tag {label_tag!r}; expected {_FINAL!r}: every label "
                    "that comes in is a reader's submission. Leave the tag out.",
                )
            with explaining(self.site_folder, upload):
                record = submit_upload(
                    self.site,
                    self.case(image_id),
                    upload=upload,
                    label_info=label_info.get("label_info"),
                    reader=self.reader,
                )
            self._saved.set(record)
        except BaseException:
            # MONAI Label removes an upload only after an answer without error.
            upload.unlink(missing_ok=True)
            raise
        return image_id

    def _note(self, case_id: str, event: ReadingEvent) -> None:
        self.site.ledger().note(self.reader, case_id, event)

    def _is_aside(self, case_id: str) -> bool:
        """Whether a case was found damaged, and its files are still as they were then."""
        found = self._damaged.get(case_id)
        return found is not None and found == _file_states(self.case(case_id))

    def _offered(self) -> dict[str, bool]:
        return offered_cases(self.site, self.reader, now=datetime.now(UTC))

    def _visible(self, case_id: str) -> LabelRecord | None:
        return visible_record(self.site, self.reader, case_id, now=datetime.now(UTC))

    def list_images(self) -> list[str]:
        """Ids of the reader's cases."""
        return list(self._offered())

    def get_labeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        """Ids of the cases that the reader has labelled."""
        return [case_id for case_id, is_done in self._offered().items() if is_done]

    def get_unlabeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        """Ids of the cases that wait for the reader, the next one first.

        A case whose image was found damaged is left out while there is a sound one.
        """
        waiting = [case_id for case_id, is_done in self._offered().items() if not is_done]
        return [case_id for case_id in waiting if not self._is_aside(case_id)] or waiting

    def get_image_uri(self, image_id: str) -> str:
        """Path of the image that a reader sees first; empty for an unknown case."""
        site = self.site
        paths = {c.case_id: c.channels[site.task.display_channel] for c in site.cases}
        return str(paths.get(image_id, ""))

    def get_image(self, image_id: str, params: object = None) -> io.BytesIO:
        """Content of the image that a reader sees first."""
        case = self.case(image_id)
        return io.BytesIO(case.channels[self.site.task.display_channel].read_bytes())

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What Slicer needs to download an image and to see that it arrived whole.

        The path stays empty: Slicer would otherwise open the site's own file, and save into it.
        Without a checksum Slicer would show a cached image of the same name instead.
        """
        path = Path(self.get_image_uri(image_id))
        if not path.is_file():
            return {}
        return {
            "name": path.name,
            "path": "",
            "ts": int(path.stat().st_mtime),
            "checksum": f"SHA256:{sha256_file(path)}",
        }

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Path of the reader's own newest label of a case; empty where there is none.

        Neither another reader's label nor a proposal can be had this way, nor in the second
        period of a crossover the reader's own label of the first.
        """
        record = self._visible(label_id) if label_tag == _FINAL else None
        return str(self.site.ledger().label_path(record.label_sha256)) if record else ""

    def get_label(self, label_id: str, label_tag: str, params: object = None) -> io.BytesIO | None:
        """Content of the reader's own newest label of a case."""
        uri = self.get_label_uri(label_id, label_tag)
        return io.BytesIO(Path(uri).read_bytes()) if uri else None

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """How the reader's own newest label of a case came about."""
        record = self._visible(label_id) if label_tag == _FINAL else None
        return {"origin": record.origin, "status": record.status} if record else {}

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """The case's id under the tag of its label, if the reader has submitted one."""
        return {_FINAL: image_id} if self._visible(image_id) else {}

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        """The case's id, if the reader has submitted a label with that tag."""
        return self.get_labels_by_image_id(image_id).get(tag, "")

    def status(self) -> dict[str, Any]:
        """How far the reader has come."""
        offered = self._offered()
        n_done = sum(offered.values())
        return {"total": len(offered), "completed": n_done, "label_tags": {_FINAL: n_done}}

    def json(self) -> dict[str, Any]:
        """The reader's cases in the shape of MONAI Label's own list."""
        return {
            "name": self.name(),
            "description": self.description(),
            "images_dir": "images",
            "labels_dir": "labels",
            "objects": {
                case_id: {
                    "image": {"ext": ".nii.gz", "info": {"name": f"{case_id}.nii.gz"}},
                    "labels": {_FINAL: {"ext": ".nii.gz", "info": {}}} if is_done else {},
                }
                for case_id, is_done in self._offered().items()
            },
        }

    def name(self) -> str:
        """The site's name."""
        return self.site.name

    def description(self) -> str:
        """The task's title."""
        return self.site.task.title

    def refresh(self) -> None:
        """Nothing to do: every request sees the site as it is then."""

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Nothing is kept: MONAI Label's note of who was offered a case is in the reading log."""

    def datalist(self) -> list[dict[str, Any]]:
        """Nothing: training takes its labels from the ledger."""
        return []


_FileStates = tuple[tuple[int, int] | None, ...]


def _file_states(case: Case) -> _FileStates:
    """Time and size of each of a case's files; None for a missing one."""
    stats = (path.stat() if path.is_file() else None for path in case.channels.values())
    return tuple(stat and (stat.st_mtime_ns, stat.st_size) for stat in stats)
