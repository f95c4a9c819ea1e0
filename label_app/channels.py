"""The other channels of a case, for the script in ``deploy/slicer`` that loads them.

3D Slicer's module knows one image a case. These two requests, which it does not send, say which
channels a case has and hand them out.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse
from monailabel.interfaces.utils.app import app_instance

from label_app.answers import explaining
from label_app.store import SiteDatastore
from segfed.files import sha256_file
from segfed.sites import Case, check_intact

router = APIRouter(prefix="/channels")


@router.get("/{case_id}")
def channels(case_id: str) -> dict[str, Any]:
    """A case's channels in the task's order, with what Slicer needs to check a download.

    ``displayed`` names the channel that Slicer's module loads as the case's image.
    """
    store = _store()
    case = _intact_case(store, case_id)
    return {
        "id": case_id,
        "displayed": store.site.task.display_channel,
        "channels": {
            name: {
                "name": f"{case_id}-{name}.nii.gz",
                "checksum": f"SHA256:{sha256_file(path)}",
            }
            for name, path in case.channels.items()
        },
    }


@router.get("/{case_id}/{channel}")
def channel_file(case_id: str, channel: str) -> FileResponse:
    """One channel's file."""
    case = _intact_case(_store(), case_id)
    if channel not in case.channels:
        raise HTTPException(
            404,
            f"Case {case_id} has no channel {channel!r}; expected one of "
            f"{', '.join(case.channels)}. Choose one of these.",
        )
    return FileResponse(
        case.channels[channel],
        media_type="application/octet-stream",
        filename=f"{case_id}-{channel}.nii.gz",
    )


def _store() -> SiteDatastore:
    store: SiteDatastore = app_instance().datastore()
    return store


def _intact_case(store: SiteDatastore, case_id: str) -> Case:
    """The case, if its channels are what was imported."""
    case = store.case(case_id)
    with explaining(store.site_folder):
        check_intact(case)
    return case
