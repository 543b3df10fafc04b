"""Our requests to the prompt registry are those of MLflow's own client, and each side reads what the other wrote."""

import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from lib.catalog import Catalog
from lib.core import InvalidInput, NotFound, new_id
from lib.prompt_registry import PromptRegistry
from lib.prompts import PromptStore
from lib.settings import Settings, load_settings
from lib.workspace import Workspace

TEXT = "Größe 'x' \"y\" \\ \u2028\n---\nSay {{what}}.\n"
SCHEMA = "somewhere"


class Recorder(BaseHTTPRequestHandler):
    """Keeps method, path and body of every request to the registry, and answers in two pages."""

    requests: list[tuple[str, str, Any]]
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        body = json.loads(sent) if sent else None
        if "/prompts" in path:
            self.requests.append((self.command, path, body))
        version = {"name": f"main.{SCHEMA}.greet", "version": "1", "template": json.dumps(TEXT)}
        more = {} if body is None or "page_token" in body else {"next_page_token": "2"}
        pages = {"prompts": [version], "prompt_versions": [version], **more}
        content = json.dumps(pages if path.endswith("/search") else version).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def recorder() -> Iterator[tuple[str, list[tuple[str, str, Any]]]]:
    """The address of a recording registry, and what it was asked."""
    heard: list[tuple[str, str, Any]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Recording", (Recorder,), {"requests": heard}))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", heard
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def mlflow(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLflow's own client, at our workspace and with nothing in its cache."""
    import mlflow

    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.setenv("MLFLOW_ALIAS_PROMPT_CACHE_TTL_SECONDS", "0")
    mlflow.set_tracking_uri("databricks")
    mlflow.set_registry_uri("databricks-uc")
    return mlflow


def ask_as_mlflow(client: Any) -> None:
    """What `PromptRegistry` is asked below, asked of MLflow's client."""
    name, within = f"main.{SCHEMA}.greet", f"catalog = 'main' AND schema = '{SCHEMA}'"
    first = client.search_prompts(within, max_results=100)
    client.search_prompts(within, max_results=100, page_token=first.token)
    versions = client.search_prompt_versions(name, max_results=100)
    client.search_prompt_versions(name, max_results=100, page_token=versions.token)
    registry = client._get_registry_client().store
    registry.create_prompt_version(name, TEXT, description="größer", tags={"author": "us"})
    registry.create_prompt_version(name, TEXT)
    registry.create_prompt(name)
    registry.set_prompt_alias(name, "production", 1)
    registry.delete_prompt_alias(name, "production")


def test_our_requests_are_those_of_mlflows_client(
    recorder: tuple[str, list[tuple[str, str, Any]]],
    environment: dict[str, str],
    mlflow: Any,
    monkeypatch: pytest.MonkeyPatch,
):
    host, heard = recorder
    settings = replace(load_settings(environment | {"DATABRICKS_HOST": host}), catalog="main", schema=SCHEMA)
    ours = PromptRegistry(Workspace(settings), settings)
    assert ours.names() == ["greet", "greet"]
    assert [version.template for version in ours.versions("greet")] == [TEXT, TEXT]
    ours.add("greet", TEXT, {"author": "us", "why": "größer"})
    ours.add("greet", TEXT, {})
    ours._create("greet")
    ours.set_alias("greet", "production", 1)
    ours.delete_alias("greet", "production")
    asked = list(heard)
    heard.clear()
    monkeypatch.setenv("DATABRICKS_HOST", host)
    ask_as_mlflow(mlflow.MlflowClient())
    assert len(asked) == 9
    assert asked == heard


@pytest.fixture(scope="module")
def settings(environment: dict[str, str]) -> Settings:
    return replace(load_settings(environment), schema=f"registry_{new_id()[:8]}")


@pytest.fixture(scope="module")
def store(settings: Settings) -> PromptStore:
    workspace = Workspace(settings)
    Catalog(workspace, settings).setup()
    return PromptStore(workspace, settings)


def test_mlflow_reads_what_we_save(store: PromptStore, settings: Settings, mlflow: Any):
    saved = store.save("ours", TEXT, alias="production", why="größer", author="us", scores={"train": 0.5}, code="7")
    found = mlflow.genai.load_prompt(f"prompts:/{settings.full_name('ours')}@production")
    assert (found.template, found.version, found.commit_message) == (saved.text, 1, "größer")
    assert found.tags == {"author": "us", "scores": '{"train": 0.5}', "code": '"7"'}
    assert (found.is_text_prompt, found.variables, found.aliases) == (True, {"what"}, ["production"])
    assert found.format(what="hello").endswith("Say hello.\n")
    store.save("ours", TEXT + "!")
    store.promote("ours", 2, by="us", why="louder")
    assert mlflow.genai.load_prompt(f"prompts:/{settings.full_name('ours')}@production").version == 2


def test_we_read_what_mlflow_registers(store: PromptStore, settings: Settings, mlflow: Any):
    client, name = mlflow.MlflowClient(), settings.full_name("theirs")
    client.register_prompt(name, "Hi {{name}}", commit_message="first", tags={"author": "them", "seed": "7"})
    chat = [("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "{{x}}")]
    client.register_prompt(name, [{"role": role, "content": text} for role, text in chat])
    client.set_prompt_alias(name, "challenger", 1)
    found = {prompt.version: prompt for prompt in store.list("theirs")}
    assert (found[1].text, found[1].messages(name="Ann")[0]["content"]) == ("Hi {{name}}", "Hi Ann")
    about = {"author": "them", "seed": 7, "why": "first", "name": "theirs", "version": 1}
    assert about.items() <= found[1].metadata.items()
    assert list(found[2].turns) == chat
    assert store.aliases("theirs") == {"challenger": 1}
    assert store.save("theirs", "Hi {{name}}!").version == 3


def test_what_is_no_text_of_ours_is_left_out_and_told_where_it_matters(
    store: PromptStore, settings: Settings, mlflow: Any
):
    client, name = mlflow.MlflowClient(), settings.full_name("foreign")
    client.register_prompt(name, "for {{bank}}\n---\n{{x}}")
    client.register_prompt(name, [{"role": "assistant", "content": "{{x}}"}])
    client.register_prompt(name, "{{x}}")
    assert [prompt.version for prompt in store.list("foreign")] == [3]
    assert store.load().problems == {}
    client.set_prompt_alias(name, "production", 2)
    assert store.load().problems.keys() == {("foreign", "production")}
    with pytest.raises(NotFound, match="foreign : it has v3"):
        store.get("foreign")


def test_more_versions_than_a_page_holds(store: PromptStore, settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lib.prompt_registry._PAGE", 2)
    for number in range(1, 6):
        store.save("paged", f"Version {number}: {{{{x}}}}", alias="challenger" if number == 1 else None)
    assert store.versions()["paged"] == [1, 2, 3, 4, 5]
    assert store.aliases("paged") == {"challenger": 1}


def test_a_schema_that_is_not_there_is_named(store: PromptStore, settings: Settings):
    nowhere = PromptStore(store.workspace, replace(settings, schema="nowhere"))
    with pytest.raises(NotFound, match=r"prompt registry of \w+\.nowhere"):
        nowhere.load()
    with pytest.raises(NotFound, match=r"prompt registry of \w+\.nowhere"):
        nowhere.save("greet", TEXT)


@pytest.mark.parametrize("key", ["version", "a b", "_mlflow_x", "é", "a" * 101])
def test_a_tag_that_no_registry_keeps_is_refused(store: PromptStore, key: str):
    with pytest.raises(InvalidInput, match="metadata"):
        store.save("ours", TEXT, **{key: 1})
