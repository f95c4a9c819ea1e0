"""The requests that 3D Slicer's MONAI Label module sends, and what it makes of the answers."""

from __future__ import annotations

import json
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
from numpy.typing import NDArray

from segfed.errors import ServerError
from segfed.files import sha256_bytes
from segfed.sites import Task
from segfed.volumes import Grid, Volume, check_same_grid, read_grid, read_label, write_label

_TIMEOUT_SECONDS = 300.0
"""A large volume on a slow processor takes minutes to segment."""


class SlicerClient:
    """One connection to a label server, for labels of one task.

    Slicer works with named segments. It numbers them by their place in its list when it exports
    them, and names what it imports by the order of the values it finds; so does this client.
    """

    def __init__(
        self,
        url: str,
        task: Task,
        *,
        client_id: str,
        transport: httpx.BaseTransport | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            url: The label server.
            task: What is labelled there.
            client_id: What the client calls itself.
            transport: How requests travel; over the network unless given.
            verify: Which certificates to trust; the usual ones unless given.
        """
        self._task = task
        self._client_id = client_id
        self._http = httpx.Client(
            base_url=url,
            timeout=_TIMEOUT_SECONDS,
            trust_env=False,
            transport=transport,
            verify=verify,
            # As Slicer, which connects anew for each request: while a reader thinks, the server
            # closes a connection that is kept.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def log_in(self, name: str, password: str) -> None:
        """Log in as Slicer's dialog does; every request but the image's bears the token then.

        Raises:
            ServerError: If the server asks for no login, or knows no such name and password.
        """
        _checked(self._http.get("/auth/"))
        form = {"username": name, "password": password, "grant_type": "password"}
        token = _checked(self._http.post("/auth/token", data=form)).json()["access_token"]

        def bear(request: httpx.Request) -> httpx.Request:
            request.headers["Authorization"] = f"Bearer {token}"
            return request

        self._http.auth = bear
        _checked(self._http.get("/auth/token/valid"))

    def info(self) -> dict[str, Any]:
        """What the server offers.

        Raises:
            ServerError: If its labels are not those of the task.
        """
        info: dict[str, Any] = _checked(self._http.get("/info/")).json()
        expected = sorted(self._task.labels, key=lambda name: self._task.labels[name])
        if info["labels"] != expected:
            raise ServerError(
                f"The label server at {self._http.base_url} offers the labels {info['labels']}, "
                f"expected {expected} for task {self._task.name!r}. Connect to another server."
            )
        return info

    def next_sample(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """The next case by the server's first strategy; empty when none is left."""
        strategy = next(iter(info["strategies"]))
        answer = self._http.post(f"/activelearning/{strategy}", json={"client_id": self._client_id})
        sample: dict[str, Any] = _checked(answer).json()
        return sample

    def download_grid(self, sample: Mapping[str, Any]) -> Grid:
        """Download a case's image, as Slicer does without a token, and return its grid.

        Raises:
            ServerError: If the image's checksum is not the one that was announced.
        """
        image = _checked(
            self._http.get("/datastore/image", params={"image": sample["id"]}, auth=None)
        )
        found = f"SHA256:{sha256_bytes(image.content)}"
        if found != sample["checksum"]:
            raise ServerError(
                f"The image of case {sample['id']} arrived with the checksum {found}, expected "
                f"{sample['checksum']}. Download it again."
            )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(str(sample["name"])).name
            path.write_bytes(image.content)
            return read_grid(path)

    def labels_of(self, case_id: str) -> dict[str, Any]:
        """What the server has of a case by tag, of which Slicer loads ``original`` first."""
        everything = _checked(self._http.get("/datastore/", params={"output": "all"})).json()
        labels: dict[str, Any] = everything["objects"][case_id]["labels"]
        return labels

    def propose(
        self, info: Mapping[str, Any], case_id: str, *, grid: Grid
    ) -> NDArray[np.uint8] | None:
        """The proposal (I, J, K) of the task's model; None if the server offers no model.

        Raises:
            GeometryError: If the proposal is not on the image's grid.
            ServerError: If the server refuses, or answers without a label.
        """
        if self._task.name not in info["models"]:
            return None
        parts = self._infer(self._task.name, case_id)
        label = _read(parts["image"])
        check_same_grid(
            label.grid, grid, name=f"proposal for case {case_id}", reference="served image"
        )
        names = json.loads(parts["params"])["label_names"]
        found = np.unique(label.data[label.data > 0]).tolist()
        if len(found) != len(names):
            raise ServerError(
                f"The proposal for case {case_id} holds the values {found} and names {names}; "
                "expected one name for each, or Slicer would mix segments up. Correct the server."
            )
        ordered = sorted(names, key=lambda name: names[name])
        values = {
            value: self._task.labels[name] for value, name in zip(found, ordered, strict=True)
        }
        return _renumbered(label.data[0], values)

    def click(
        self, info: Mapping[str, Any], case_id: str, voxels: Sequence[tuple[int, int, int]]
    ) -> NDArray[np.uint8] | None:
        """One structure (I, J, K) as the model for clicks draws it, in the task's value.

        Args:
            info: What the server offers.
            case_id: A case.
            voxels: All points on the structure so far, indices I, J, K of the image.

        Returns:
            None if the server offers no model for clicks.

        Raises:
            ServerError: If the server refuses.
        """
        models = info["models"].items()
        found = next(((name, model) for name, model in models if model["type"] == "deepgrow"), None)
        if found is None:
            return None
        name, model = found
        (structure,) = model["labels"]
        points = {"foreground": [list(voxel) for voxel in voxels], "background": []}
        parts = self._infer(name, case_id, **points, label=structure)
        value = self._task.labels[structure]
        return np.where(_read(parts["image"]).data[0], value, 0).astype(np.uint8)

    def save(self, info: Mapping[str, Any], case_id: str, label: Volume) -> dict[str, Any]:
        """Submit a label in the task's values; returns what Slicer would show.

        Raises:
            ServerError: If the server refuses the label.
        """
        numbers = {name: number for number, name in enumerate(info["labels"], start=1)}
        exported = _renumbered(
            label.data, {self._task.labels[name]: number for name, number in numbers.items()}
        )
        params = {
            "label_info": [{"name": name, "idx": number} for name, number in numbers.items()],
            "model": next(iter(info["models"]), ""),
            "client_id": self._client_id,
        }
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "label.nii.gz"
            write_label(Volume(exported, label.grid), path)
            content = path.read_bytes()
        answer = self._http.put(
            "/datastore/label",
            params={"image": case_id},
            data={"params": json.dumps(params)},
            files={"label": ("label.nii.gz", content)},
        )
        saved: dict[str, Any] = _checked(answer).json()
        return saved

    def _infer(self, model: str, case_id: str, **wishes: object) -> dict[str, bytes]:
        """What a model makes of a case: the parts of the answer, ``params`` and ``image``."""
        always = {"result_extension": ".nrrd", "result_dtype": "uint8"}
        params = json.dumps(always | wishes | {"client_id": self._client_id})
        answer = self._http.post(
            f"/infer/{model}", params={"image": case_id}, files={"params": (None, params)}
        )
        return _parts(_checked(answer))


def _renumbered(label: NDArray[Any], values: Mapping[int, int]) -> NDArray[np.uint8]:
    """A label with other values; 0 stays 0."""
    result = np.zeros(label.shape, dtype=np.uint8)
    for old, new in values.items():
        result[label == old] = new
    return result


def _read(content: bytes) -> Volume:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "proposal.nrrd"
        path.write_bytes(content)
        return read_label(path)


def _parts(answer: httpx.Response) -> dict[str, bytes]:
    """The parts of a multipart answer by name; httpx writes them but does not read them."""
    kind, _, boundary = answer.headers["content-type"].partition("boundary=")
    if not kind.startswith("multipart/") or not boundary:
        raise ServerError(
            f"{answer.url} answered with {kind!r}, expected multipart: a label and what it "
            "holds. Look into the server's log."
        )
    parts = {}
    for part in (b"\r\n" + answer.content).split(b"\r\n--" + boundary.strip('"').encode())[1:-1]:
        head, _, body = part.partition(b"\r\n\r\n")
        name = head.partition(b' name="')[2].partition(b'"')[0]
        parts[name.decode()] = body
    return parts


def _checked(answer: httpx.Response) -> httpx.Response:
    """The answer, unless the server refused."""
    if answer.is_success:
        return answer
    raise ServerError(
        f"The label server answered {answer.request.method} {answer.url} with HTTP "
        f"{answer.status_code}, expected success: {answer.text[:1000]}"
    )
