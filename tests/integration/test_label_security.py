"""The real server process over TLS with logins, as MONAI Label's own client and as attackers ask.

Every attack here succeeds against MONAI Label's stock server (0.8.5, its defaults), which answers
with 200 where these tests demand a refusal.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import ssl
import time
from pathlib import Path

import httpx
import jwt
import pytest

from segfed.cli.label_listen import ANY, Listen
from segfed.cli.label_server import running_server
from segfed.errors import ServerError
from segfed.files import sha256_bytes
from segfed.sites import (
    Site,
    add_account,
    read_accounts,
    remove_account,
    set_password,
    signing_key,
)
from segfed.volumes import Volume, read_label, write_label
from tests.model_samples import publish_untrained
from tests.sites_samples import SEGMENTS, make_grid, make_label, make_site
from tests.tls_samples import make_certificate

PASSWORD = "correct horse battery"

# MONAI Label's own client imports a deprecated module and leaves its sockets to be collected.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    site = make_site(tmp_path_factory.mktemp("site"), splits=("train",) * 6)
    for name in ("ann", "bob"):
        add_account(site.folder, name=name, role="annotator", password=PASSWORD)
    return site


@pytest.fixture(scope="module")
def server(site, tmp_path_factory):
    certificate, key = make_certificate(tmp_path_factory.mktemp("tls"))
    listen = Listen(ANY, 0, certificate, key, public_names=("localhost",))
    with running_server(site.folder, listen=listen, device="cpu") as running:
        yield running


@pytest.fixture(scope="module")
def context(server) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=server.listen.certificate)


@pytest.fixture
def stranger(server, context):
    """Somebody without an account, at the readers' own address."""
    with httpx.Client(base_url=server.url, verify=context, timeout=60) as client:
        yield client


@pytest.fixture
def ann(server, context):
    """A reader who has logged in."""
    with httpx.Client(base_url=server.url, verify=context, timeout=60) as client:
        client.headers["authorization"] = f"bearer {log_in(client, 'ann')}"
        yield client


def log_in(client: httpx.Client, name: str, password: str = PASSWORD) -> str:
    form = {"username": name, "password": password, "grant_type": "password"}
    answer = client.post("/auth/token", data=form)
    assert answer.status_code == 200, answer.text
    return answer.json()["access_token"]


def good_label(folder: Path) -> bytes:
    write_label(make_label(), folder / "good.nii.gz")
    return (folder / "good.nii.gz").read_bytes()


def save(client: httpx.Client, case_id: str, content: bytes, name: str = "label.nii.gz"):
    return client.put(
        "/datastore/label",
        params={"image": case_id},
        data={"params": json.dumps({"label_info": SEGMENTS, "client_id": "bob"})},
        files={"label": (f"/tmp/slicer/{name}", content)},
    )


def test_monai_labels_own_client_is_served_as_it_expects(server, site, tmp_path):
    from monailabel.client.client import MONAILabelClient

    client = MONAILabelClient(server.url, tmpdir=str(tmp_path), client_id="user-xyz")
    assert client.auth_enabled()
    token = client.auth_token("ann", PASSWORD)
    client.update_auth(token)
    assert client.auth_valid_token()
    assert client.info()["models"] == {}, "nothing is published yet"
    model_sha256 = publish_untrained(site, tmp_path / "bundle")

    info = client.info()
    sample = client.next_sample("oldest_first", {})
    image = download_as_slicer(server, sample["id"])
    datastore = client.datastore()
    file, params = client.infer("bean", sample["id"], {"result_extension": ".nrrd"})
    write_label(make_label(), tmp_path / "label.nii.gz")
    saved = client.save_label(
        sample["id"],
        str(tmp_path / "label.nii.gz"),
        params={"label_info": SEGMENTS, "model": "bean"},
    )

    assert isinstance(token["access_token"], str)
    assert token["token_type"].lower() == "bearer"
    assert info["labels"] == ["skin", "core"]
    assert info["models"]["bean"]["type"] == "segmentation"
    assert info["models"]["bean"]["labels"] == {"skin": 1, "core": 2}
    assert info["models"]["bean"]["dimension"] == 3
    assert "config" not in info, "Slicer takes a server with a top-level config for outdated"
    assert {"name", "strategies", "trainers", "scoring", "train_stats", "datastore"} <= set(info)
    assert (sample["name"], sample["path"]) == ("case0.nii.gz", "")
    assert isinstance(sample["ts"], int)
    assert sample["checksum"] == f"SHA256:{sha256_bytes(image)}"
    assert sample["id"] in datastore["objects"]
    assert Path(file).suffix == ".nrrd"
    assert read_label(Path(file)).grid.shape == make_grid().shape
    assert (params["model_sha256"], set(params)) >= (model_sha256, {"label_names", "latencies"})
    assert (saved["image"], saved["label"]) == (sample["id"], sample["id"])
    assert saved["origin"] in ("ai_corrected", "ai_accepted")
    (record,) = site.ledger().records(sample["id"])
    assert record.reader == "ann", "whatever client_id says"
    assert client.next_sample("oldest_first", {})["id"] != sample["id"]


@pytest.mark.parametrize(
    ("name", "case_id", "arm", "origins"),
    [
        ("eve", "case3", "manual", {"manual"}),
        ("fay", "case4", "assisted", {"ai_corrected", "ai_accepted"}),
    ],
)
def test_a_reader_of_each_arm_goes_through_slicers_whole_sequence(
    server, site, tmp_path, name, case_id, arm, origins
):
    from monailabel.client.client import MONAILabelClient

    publish_untrained(site, tmp_path / "bundle")
    add_account(site.folder, name=name, role="annotator", password=PASSWORD)
    site.ledger().assign(name, case_id, arm)
    client = MONAILabelClient(server.url, tmpdir=str(tmp_path), client_id=name)
    client.update_auth(client.auth_token(name, PASSWORD))

    info = client.info()
    sample = client.next_sample(next(iter(info["strategies"])), {})
    image = download_as_slicer(server, sample["id"])
    objects = client.datastore()["objects"]
    file, params = client.infer("bean", sample["id"], {"result_extension": ".nrrd"})
    proposal = read_label(Path(file))
    write_label(make_label(), tmp_path / "label.nii.gz")
    saved = client.save_label(
        sample["id"],
        str(tmp_path / "label.nii.gz"),
        params={"label_info": SEGMENTS, "model": "bean"},
    )
    after = client.info()

    assert sample["id"] == case_id
    assert sample["checksum"] == f"SHA256:{sha256_bytes(image)}"
    assert "original" not in objects[case_id]["labels"]
    assert bool(params["label_names"]) == bool(proposal.data.any())
    assert ("model_sha256" in params) == (arm == "assisted")
    assert saved["origin"] in origins
    (record,) = site.ledger().records(case_id)
    assert (record.reader, record.arm, record.origin in origins) == (name, arm, True)
    assert after["datastore"]["completed"] == info["datastore"]["completed"] + 1
    assert client.next_sample("oldest_first", {}) == {}, "nothing else is assigned"


def download_as_slicer(server, case_id: str) -> bytes:
    """An image as Slicer downloads it: without any header of its own."""
    connection = http.client.HTTPSConnection(
        "localhost", server.listen.port, context=ssl._create_unverified_context()
    )
    with contextlib.closing(connection):
        connection.request("GET", f"/datastore/image?image={case_id}")
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.getheader("content-type") == "application/octet-stream"
        return answer.read()


def test_two_readers_at_one_server_keep_their_own_names(server, site, context, tmp_path):
    for name in ("ann", "bob"):
        with httpx.Client(base_url=server.url, verify=context) as client:
            client.headers["authorization"] = f"bearer {log_in(client, name)}"
            assert save(client, "case1", good_label(tmp_path)).status_code == 200

    assert [record.reader for record in site.ledger().records("case1")] == ["ann", "bob"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/info/"),
        ("POST", "/activelearning/oldest_first"),
        ("GET", "/datastore/?output=all"),
        ("GET", "/datastore/image?image=case5"),
        ("HEAD", "/datastore/image?image=case5"),
        ("GET", "/datastore/label?label=case1&tag=final"),
        ("PUT", "/datastore/label?image=case1"),
        ("POST", "/infer/bean?image=case1"),
        ("GET", "/channels/case5"),
        ("GET", "/channels/case5/t1"),
        ("GET", "/train/"),
        ("POST", "/train/bean"),
    ],
)
def test_a_stranger_gets_nothing(stranger, method, path):
    assert stranger.request(method, path).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        # An upload over the app's own code, which a stock server then runs.
        ("PUT", "/datastore/image?image=../app/main", 404),
        ("PUT", "/datastore/?image=../app/main", 404),
        # A label written anywhere, and any file of the machine read as an image.
        ("PUT", "/datastore/label?image=case1&tag=../../x", 404),
        ("POST", "/infer/bean?image=/etc/hostname", 404),
        ("GET", "/datastore/image?image=/etc/hostname", 404),
        ("GET", "/datastore/label?label=../../site.toml&tag=final", 404),
        # Weights replaced or removed, data removed, the archive reached, the server restarted.
        ("PUT", "/model/bean", 404),
        ("DELETE", "/model/bean", 404),
        ("GET", "/model/bean", 404),
        ("DELETE", "/datastore/image?id=case1", 404),
        ("GET", "/proxy/dicom/studies", 404),
        ("POST", "/reload", 404),
        ("GET", "/logs/", 404),
        ("PUT", "/session/", 404),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/static/favicon.ico", 404),
    ],
)
def test_attacks_on_the_stock_server_are_refused_even_for_a_reader(ann, site, method, path, status):
    before = {path: path.read_bytes() for path in site.folder.glob("**/*.py")}

    # What a stock server would run.
    upload = {"file": ("x.py", b"raise SystemExit"), "label": ("x.py", b"raise SystemExit")}
    options = {"files": upload} if method in ("PUT", "POST") else {}
    answer = ann.request(method, path, **options)

    assert answer.status_code == status
    assert "detail" in answer.json()
    assert {path: path.read_bytes() for path in site.folder.glob("**/*.py")} == before
    assert not list(site.folder.glob("**/x*"))


def test_no_page_in_a_browser_gets_an_answer(ann):
    origin = {"origin": "https://example.org"}
    page = ann.get("/info/", headers=origin)
    preflight = ann.request("OPTIONS", "/info/", headers=origin)
    rebound = ann.get("/info/", headers={"host": "rebound.example.org"})

    assert (page.status_code, preflight.status_code, rebound.status_code) == (403, 404, 403)
    assert not any(name.startswith("access-control") for name in page.headers)
    assert not any(name.startswith("access-control") for name in preflight.headers)


def test_an_image_is_had_without_a_token_after_it_was_offered(server, site, ann, stranger):
    site.ledger().assign("ann", "case2", "manual")
    sample = ann.post("/activelearning/oldest_first", json={}).json()

    assert sha256_bytes(download_as_slicer(server, sample["id"])) in sample["checksum"]
    assert stranger.head("/datastore/image", params={"image": sample["id"]}).status_code == 200
    assert stranger.get("/datastore/image", params={"image": "case5"}).status_code == 401
    # A proxy on this machine cannot claim to ask for somebody else, nor can anybody through it.
    forged = {"x-forwarded-for": "10.1.2.3", "forwarded": "for=10.1.2.3"}
    as_reader = stranger.get("/datastore/image", params={"image": sample["id"]}, headers=forged)
    assert as_reader.status_code == 200, "the address is the connection's"


def test_forged_and_expired_tokens_are_refused_in_words(site, stranger):
    stamp = read_accounts(site.folder)["ann"].stamp
    claims = {"sub": "ann", "stamp": stamp, "iat": 0, "exp": int(time.time()) - 1}
    expired = jwt.encode(claims, signing_key(site.folder), algorithm="HS256")
    unsigned = jwt.encode(claims | {"exp": int(time.time()) + 60}, None, algorithm="none")

    late = stranger.get("/info/", headers={"authorization": f"bearer {expired}"})
    forged = stranger.get("/info/", headers={"authorization": f"bearer {unsigned}"})

    assert (late.status_code, forged.status_code) == (401, 401)
    assert "expired" in late.json()["detail"]
    assert "did not give out" in forged.json()["detail"]


def test_an_account_is_shut_out_the_moment_it_is_removed(site, stranger):
    add_account(site.folder, name="carol", role="annotator", password=PASSWORD)
    header = {"authorization": f"bearer {log_in(stranger, 'carol')}"}
    assert stranger.get("/info/", headers=header).status_code == 200

    set_password(site.folder, name="carol", password="another long password")
    assert stranger.get("/info/", headers=header).status_code == 401
    remove_account(site.folder, "carol")
    assert stranger.get("/info/", headers=header).status_code == 401


def test_guessing_a_password_ends_after_a_few_tries(site, stranger):
    add_account(site.folder, name="dora", role="annotator", password=PASSWORD)
    form = {"username": "dora", "password": "a wrong guess", "grant_type": "password"}

    statuses = [stranger.post("/auth/token", data=form).status_code for _ in range(12)]

    assert statuses == [401] * 10 + [429] * 2


def test_bad_uploads_are_refused_in_words_and_the_good_label_stays(site, ann, tmp_path):
    good = good_label(tmp_path)
    assert save(ann, "case2", good).status_code == 200
    records = site.ledger().records()
    moved, detached = tmp_path / "moved.nii.gz", b"NRRD0004\n"
    write_label(Volume(make_label().data, make_grid(shift_mm=5)), moved)
    detached += b"type: uint8\ndimension: 3\nsizes: 7 6 5\nencoding: raw\n"
    detached += f"data file: {site.folder / 'site.toml'}\n\n".encode()

    refused = {
        "Cannot read": save(ann, "case2", good[:60]),
        "empty file": save(ann, "case2", b""),
        "as NIfTI": save(ann, "case2", b"not an image at all"),
        "expected one that ends in": save(ann, "case2", b"raise SystemExit", "x.py"),
        "grid": save(ann, "case2", moved.read_bytes()),
        "segment named 'value 7'": save(ann, "case2", label_bytes(make_label(7), tmp_path)),
        "the voxels in the file itself": save(ann, "case2", detached, "x.nrrd"),
        "no case": save(ann, "nobody", good),
    }

    for words, answer in refused.items():
        assert answer.status_code in (404, 422), words
        assert words in answer.json()["detail"]
    assert site.ledger().records() == records
    site.ledger().verify()


def label_bytes(label: Volume, folder: Path) -> bytes:
    write_label(label, folder / "label.nii.gz")
    return (folder / "label.nii.gz").read_bytes()


def test_a_gzip_bomb_is_refused_without_being_unpacked(site, ann, server):
    before_kb = peak_memory_kb(server.process.pid)
    head = gzip.decompress((site.folder / "images" / "case0.nii.gz").read_bytes())[:352]
    bomb = gzip.compress(head, 1) + gzip.compress(bytes(2**26), 1) * 24  # 1.5 GB when unpacked

    answer = save(ann, "case3", bomb)

    assert answer.status_code == 422
    assert peak_memory_kb(server.process.pid) - before_kb < 300_000


def peak_memory_kb(pid: int) -> int:
    """The most memory that a process has had, as Linux counts it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def test_an_upload_of_gigabytes_is_refused_in_words_and_takes_no_memory(ann, server):
    before_kb = peak_memory_kb(server.process.pid)
    token = ann.headers["authorization"]
    connection = http.client.HTTPSConnection(
        "localhost", server.listen.port, context=ssl._create_unverified_context()
    )
    with contextlib.closing(connection):
        # Sent to its end before the answer is read, as Slicer's client does it.
        connection.request(
            "PUT",
            "/datastore/label?image=case3",
            body=(bytes(2**20) for _ in range(1536)),
            headers={"authorization": token, "content-length": str(1536 * 2**20)},
        )
        answer = connection.getresponse()
        detail = json.loads(answer.read())["detail"]

    assert answer.status == 413
    assert "expected at most 268435456" in detail
    assert peak_memory_kb(server.process.pid) - before_kb < 100_000


def test_a_length_that_lies_does_not_disturb_others(server, ann):
    tls = ssl._create_unverified_context()
    with (
        socket.create_connection(("localhost", server.listen.port)) as plain,
        tls.wrap_socket(plain) as connection,
    ):
        head = (
            "PUT /datastore/label?image=case3 HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: {ann.headers['authorization']}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n"
        )
        connection.sendall(head.encode() + b"--x\r\n")
        assert ann.get("/info/").status_code == 200, "while that one keeps the server waiting"


def test_an_image_that_is_gone_is_said_in_words_and_the_server_goes_on(site, ann):
    image = site.folder / "images" / "case4.nii.gz"
    content = image.read_bytes()
    image.unlink()
    try:
        download = ann.get("/datastore/image", params={"image": "case4"})
        proposal = ann.post("/infer/bean", params={"image": "case4"})
    finally:
        image.write_bytes(content)

    assert download.status_code == 404
    assert proposal.status_code == 422
    assert "case4" in proposal.json()["detail"]
    assert ann.get("/datastore/image", params={"image": "case4"}).status_code == 200


def test_the_json_of_a_request_is_not_believed(ann):
    for params in ({"image": "/etc/hostname"}, {"model": "../bean"}, {"label": "/etc/hostname"}):
        answer = ann.post(
            "/infer/bean", params={"image": "case1"}, data={"params": json.dumps(params)}
        )
        assert answer.status_code in (200, 404)
        assert "hostname" not in answer.text
    broken = ann.post("/infer/bean", params={"image": "case1"}, data={"params": "{"})
    assert broken.status_code == 500
    assert "did not expect" in broken.json()["detail"]
    assert "Traceback" not in broken.text


def test_no_secret_is_on_a_command_line_or_in_a_log(server, site):
    command = Path(f"/proc/{server.process.pid}/cmdline").read_text()
    log = Path(server.log.name).read_text()

    for secret in (PASSWORD, signing_key(site.folder).hex(), "argon2"):
        assert secret not in command
        assert secret not in log


def test_the_address_that_uvicorn_listens_on_is_encrypted_only(server):
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{server.listen.port}/info/")


def test_a_server_for_others_is_refused_without_accounts(tmp_path):
    site = make_site(tmp_path)

    with (
        pytest.raises(ServerError, match=r"0\.0\.0\.0.*accounts.*--tls-certificate.*--public-name"),
        running_server(site.folder, listen=Listen(ANY)),
    ):
        pass
