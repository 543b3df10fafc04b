"""Faults on purpose, and that the genuine clients get over them."""

import io
import json
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import NotFound, TemporarilyUnavailable
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.serving import EndpointCoreConfigInput, ServedEntityInput
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult
from typer.testing import CliRunner

from local_workspace.faults.cli import cli
from local_workspace.tests.conftest import Running
from local_workspace.tests.test_sql import rows
from local_workspace.tests.test_zerobus import made_spans
from local_workspace.tests.test_zerobus_grpc import make_table, open_stream

PATH = "/local/faults"
VOLUME = "/Volumes/main/default/faulty"
FILES = "/api/2.0/fs/files/{path:path}"


class Admin:
    """The admin's calls to a workspace."""

    def __init__(self, workspace: Running):
        self.token = json.loads((workspace.root / "identity.json").read_text())["admin_token"]
        self.http = httpx.Client(base_url=workspace.host, headers={"Authorization": f"Bearer {self.token}"})

    def add(self, path: str, **fault: Any) -> str:
        """A new rule's id."""
        answer = self.http.post(PATH, json={"path": path} | fault)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def counts(self, rule_id: str) -> tuple[int, int]:
        """How many requests matched a rule and how many it hit."""
        rules = {rule["id"]: rule for rule in self.http.get(PATH).json()["rules"]}
        return rules[rule_id]["matched"], rules[rule_id]["hits"]


@pytest.fixture
def admin(workspace: Running) -> Iterator[Admin]:
    admin = Admin(workspace)
    yield admin
    cleared = admin.http.delete(PATH)
    admin.http.close()
    assert cleared.json() == {}


@pytest.fixture(scope="module", autouse=True)
def volume(workspace: Running) -> None:
    workspace.client.volumes.create("main", "default", "faulty", volume_type=VolumeType.MANAGED)


def test_the_admin_token_is_the_owners_alone(workspace, admin):
    identity = workspace.root / "identity.json"
    assert stat.S_IMODE(identity.stat().st_mode) == 0o600
    assert admin.token != workspace.token
    assert admin.token not in json.dumps(workspace.address)
    for call in (httpx.get, httpx.post, httpx.delete):
        url = f"{workspace.host}{PATH}"
        forbidden = call(url, headers={"Authorization": f"Bearer {workspace.token}"})
        assert (forbidden.status_code, forbidden.json()["error_code"]) == (403, "PERMISSION_DENIED")
        assert call(url, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert call(url).status_code == 401
    as_user = httpx.get(f"{workspace.host}/api/2.0/preview/scim/v2/Me", headers=admin.http.headers)
    assert as_user.status_code == 401


@pytest.mark.parametrize(
    "rule",
    [
        {},
        [],
        {"path": "/x"},
        {"path": "x", "status": 500},
        {"path": "/{x", "status": 500},
        {"path": "/{x:nope}", "status": 500},
        {"path": "/{x}/{x}", "status": 500},
        {"path": "/x", "status": 200},
        {"path": "/x", "status": 500, "drop": "request"},
        {"path": "/x", "status": 500, "after_bytes": 3},
        {"path": "/x", "latency_ms": -1},
        {"path": "/x", "latency_ms": 1, "retry_after": 1},
        {"path": "/x", "drop": "both"},
        {"path": "/x", "status": 500, "rate": 1.1},
        {"path": "/x", "status": 500, "times": 0},
        {"path": "/x", "status": 500, "method": "get"},
        {"path": "/x", "status": 500, "error_code": 'a"'},
        {"path": "/x", "status": 500, "colour": "red"},
        {"path": "/" + "x" * 2000, "status": 500},
    ],
)
def test_a_rule_that_makes_no_sense_is_a_400(admin, rule):
    answer = admin.http.post(PATH, json=rule)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert admin.http.get(PATH).json() == {"rules": []}
    assert admin.http.post(PATH, content=b"\xff").status_code == 400
    assert admin.http.delete(f"{PATH}/7").status_code == 404


def test_a_rule_strikes_what_it_names_and_no_more(workspace, admin):
    me = "/api/2.0/preview/scim/v2/Me"
    rule = admin.add("/api/2.0/preview/scim/*", method="GET", status=500, times=2)
    assert [workspace.http.get(me).status_code for _ in range(3)] == [500, 500, 200]
    assert workspace.http.post(me).status_code == 501
    assert workspace.http.get("/health").status_code == 200
    assert admin.counts(rule) == (3, 2)
    assert admin.http.delete(f"{PATH}/{rule}").status_code == 200
    assert workspace.http.get(me).status_code == 200


def test_a_rate_is_repeatable_by_its_seed(workspace, admin):
    def run(**options: Any) -> list[int]:
        rule = admin.add("/health", status=503, **options)
        codes = [workspace.http.get("/health").status_code for _ in range(60)]
        admin.http.delete(f"{PATH}/{rule}")
        return codes

    half = run(rate=0.5, seed=1)
    assert half == run(rate=0.5, seed=1) != run(rate=0.5, seed=2)
    assert 15 < half.count(503) < 45
    assert set(run(rate=0)) == {200}


def test_latency_comes_on_top_and_other_rules_still_count(workspace, admin):
    admin.add("/health", latency_ms=60, jitter_ms=20)
    admin.add("/health", latency_ms=30)
    failing = admin.add("/health", status=504, times=1)
    started = time.monotonic()
    answers = [workspace.http.get("/health") for _ in range(2)]
    assert time.monotonic() - started > 2 * 0.07
    assert [answer.status_code for answer in answers] == [504, 200]
    assert answers[0].json()["error_code"] == "DEADLINE_EXCEEDED"
    assert admin.counts(failing) == (2, 1)


def test_the_sdk_waits_as_long_as_retry_after_says(workspace, admin):
    rule = admin.add("/api/2.1/unity-catalog/catalogs/{name}", status=429, retry_after=1, times=1)
    started = time.monotonic()
    assert workspace.client.catalogs.get("main").name == "main"
    assert time.monotonic() - started >= 1
    assert admin.counts(rule) == (2, 1)


def test_the_sdk_gives_up_with_the_error_of_the_answer(workspace, admin):
    admin.add("/api/2.1/unity-catalog/catalogs/*", status=503, retry_after=1)
    impatient = WorkspaceClient(config=Config(host=workspace.host, token=workspace.token, retry_timeout_seconds=1))
    with pytest.raises(TimeoutError) as caught:
        impatient.catalogs.get("main")
    assert isinstance(caught.value.__cause__, TemporarilyUnavailable)
    admin.http.delete(PATH)
    admin.add("/api/2.1/unity-catalog/catalogs/*", status=404, error_code="CATALOG_DOES_NOT_EXIST")
    with pytest.raises(NotFound, match="Injected by the fault rule"):
        workspace.client.catalogs.get("main")


def test_openai_tries_again_after_a_503_and_a_lost_connection(workspace, admin):
    model = ServedEntityInput(entity_name="system.ai.all_minilm_l6_v2", entity_version="1")
    config = EndpointCoreConfigInput(name="faulty", served_entities=[model])
    workspace.client.serving_endpoints.create_and_wait("faulty", config=config)
    path = "/serving-endpoints/embeddings"
    lost = admin.add(path, drop="request", times=1)
    busy = admin.add(path, status=503, retry_after=0, times=1)
    url = f"{workspace.host}/serving-endpoints"
    with openai.OpenAI(base_url=url, api_key=workspace.token, max_retries=2) as client:
        assert len(client.embeddings.create(model="faulty", input="hello").data) == 1
    assert admin.counts(lost) == (3, 1)
    assert admin.counts(busy) == (2, 1)
    workspace.client.serving_endpoints.delete("faulty")


def test_faults_of_the_http_side_reach_grpc(workspace, admin):
    table = make_table(workspace)
    appends = admin.add("/engine/zerobus/*", status=503, times=2)
    stream = open_stream(workspace, table)
    stream.wait_for_offset(stream.ingest_record_offset('{"id": 1}'))
    stream.close()
    assert admin.counts(appends) == (3, 2)
    assert rows(workspace, f"SELECT id FROM {table}") == [["1"]]
    exports = admin.add("/v1/traces", status=429, retry_after=1, times=1)
    headers = {"authorization": f"Bearer {workspace.token}", "x-databricks-zerobus-table-name": table}
    exporter = OTLPSpanExporter(workspace.address["zerobus"], insecure=True, headers=headers, timeout=20)
    assert exporter.export(made_spans(1)) is SpanExportResult.FAILURE  # the table is not one for spans
    exporter.shutdown()
    assert admin.counts(exports) == (2, 1)


def listed(workspace: Running) -> set[str]:
    """The names in the volume, and what lies in its folder for real."""
    return {entry.name for entry in workspace.client.files.list_directory_contents(VOLUME)}


@pytest.mark.parametrize("after_bytes", [0, 100_000])
def test_a_lost_upload_leaves_nothing_and_its_retry_succeeds(workspace, admin, after_bytes):
    name, content = f"lost-{after_bytes}.bin", b"\x00\xff" * 500_000
    url = f"/api/2.0/fs/files{VOLUME}/{name}"
    rule = admin.add(FILES, method="PUT", drop="request", after_bytes=after_bytes, times=2)
    with pytest.raises(httpx.TransportError):
        workspace.http.put(url, content=content)
    assert name not in listed(workspace)
    assert not [path for path in workspace.root.rglob("*") if path.is_file() and path.stat().st_size == 100_000]
    workspace.client.files.upload(f"{VOLUME}/{name}", io.BytesIO(content))
    assert admin.counts(rule) == (3, 2)
    assert workspace.client.files.download(f"{VOLUME}/{name}").contents.read() == content


def test_an_answer_that_is_lost_belongs_to_what_was_done(workspace, admin):
    url = f"/api/2.0/fs/files{VOLUME}/done.txt"
    admin.add(FILES, method="PUT", drop="response", times=1)
    with pytest.raises(httpx.TransportError):
        workspace.http.put(url, content=b"done")
    assert workspace.http.get(url).content == b"done"


def test_an_answer_is_cut_after_so_many_bytes(workspace, admin):
    content = bytes(range(256)) * 4096
    url = f"/api/2.0/fs/files{VOLUME}/whole.bin"
    assert workspace.http.put(url, content=content).status_code == 204
    for after_bytes in (5, 700_000, len(content) - 1):
        admin.add(FILES, method="GET", drop="response", after_bytes=after_bytes, times=1)
        seen = b""
        with pytest.raises(httpx.RemoteProtocolError), workspace.http.stream("GET", url) as answer:
            assert answer.status_code == 200
            for chunk in answer.iter_bytes():
                seen += chunk
        assert seen == content[:after_bytes]
    assert workspace.http.get(url).content == content


def test_streams_outlive_a_cut_of_their_address(workspace, admin):
    table = make_table(workspace)
    stream = open_stream(workspace, table)
    for number in range(2):
        stream.wait_for_offset(stream.ingest_record_offset(json.dumps({"id": number})))
        assert admin.http.post(f"{PATH}/connections/zerobus").json()["cut"] >= 1
    stream.close()
    assert rows(workspace, f"SELECT count(DISTINCT id) FROM {table}") == [["2"]]
    assert admin.http.post(f"{PATH}/connections/spark").status_code == 200
    assert admin.http.post(f"{PATH}/connections/other").status_code == 400


def test_the_command_line_adds_lists_and_clears(workspace, admin, tmp_path):
    root = ["--root", str(workspace.root)]
    command = [sys.executable, "-m", "local_workspace", "faults", "add", "/health", "--status", "429", *root]
    added = subprocess.run([*command, "--retry-after", "3", "--times", "1"], capture_output=True, text=True, check=True)
    rule = json.loads(added.stdout)
    assert admin.token not in added.stdout + added.stderr
    assert workspace.http.get("/health").headers["retry-after"] == "3"

    def faults(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, [*arguments])
        return result.exit_code, result.output.strip()

    code, listed = faults("list", *root)
    assert (code, json.loads(listed)) == (0, rule | {"matched": 1, "hits": 1})
    code, message = faults("add", "/health", *root)
    assert code == 1
    assert message.endswith("exactly one of latency_ms, status and drop is needed")
    assert faults("clear", rule["id"], *root) == (0, "")
    assert faults("clear", rule["id"], *root) == (1, f"There is no fault rule {rule['id']}.")
    assert faults("list", *root) == (0, "")
    assert faults("cut", "spark", *root)[0] == 0
    assert faults("list", "--root", str(tmp_path)) == (1, f"no workspace is running on --root {tmp_path}")
