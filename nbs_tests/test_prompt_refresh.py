"""A running app under load: a promoted prompt arrives, a rollback too, and no registry is no reason to fail."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from lib.context import AppContext
from lib.core import InvalidInput, new_id
from lib.settings import load_settings
from nbs_tests.faults import FILES, PROMPT_REGISTRY, fault
from nbs_tests.house import ROOT
from nbs_tests.processes import Server, Workspace, serve_app
from nbs_tests.scripted_model import scripted_endpoint

NAME = "fraud_detector"
CASE = {
    "timestamp": "2026-03-01T12:00:00",
    "customer_id": "C1",
    "amount": 900,
    "merchant": "M1",
    "location": "Ghent",
    "risk_score": 0.4,
    "reasons": ["amount 6.1 standard deviations above the customer's mean of 31.00"],
    "similar_cases": [],  # nothing to look up: the prompt and the model are what is asked here
}


@dataclass
class Load:
    """What an app answered: label of the prompt, when the request left, when its answer came, and all that failed."""

    answers: list[tuple[str, float, float]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def wait_for(self, label: str, seconds: float = 30) -> None:
        """Until a request that leaves from now on is answered with the label."""
        now = time.monotonic()
        wait_until(lambda: any(seen == label and left > now for seen, left, _ in self.answers[-50:]), label, seconds)


def wait_until(done: Callable[[], object], what: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)


@contextmanager
def load_on(app: Server, clients: int = 3) -> Iterator[Load]:
    """Requests without a pause until the block ends."""
    load, over = Load(), threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=app.url, timeout=30) as http:
            while not over.is_set():
                data = CASE | {"transaction_id": new_id()}
                left = time.monotonic()
                answer = http.post("/execute", json={"agent_name": NAME, "data": data})
                metadata = answer.json().get("metadata", {})
                if answer.status_code != 200 or metadata["degraded"]:
                    load.failed.append(answer.text)
                else:
                    load.answers.append((metadata["prompt"], left, time.monotonic()))

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask) for _ in range(clients)]
        try:
            yield load
        finally:
            over.set()
        for one in asking:
            one.result()


@dataclass(frozen=True)
class Running:
    """An app and what a colleague promotes prompts with."""

    context: AppContext
    app: Server


def prompts_of(app: Server) -> dict[str, Any]:
    return httpx.get(f"{app.url}/health").json()["workers"]["prompt_refresh"]


@pytest.fixture(scope="module")
def running(environment: dict[str, str]) -> Iterator[Running]:
    with ExitStack() as stack:
        answer = '{"reason": "far above the mean", "fraud_score": 80}'
        model = stack.enter_context(scripted_endpoint(environment, lambda _: answer))
        names = {"SOTA_SCHEMA": f"refresh_{new_id()[:8]}", "SOTA_CHAT_ENDPOINT": model.endpoint}
        context = AppContext(load_settings(environment | names))
        context.catalog.setup()
        context.config_store.sync(ROOT / "app" / "config")
        context.prompt_store.sync(ROOT / "app" / "prompts")
        path = f"{context.settings.volume('configs')}/sota_config.local.yaml"
        context.workspace.write_file(path, b"prompts: {refresh_seconds: 1}", overwrite=True)
        app = stack.enter_context(serve_app(environment | names))
        app.wait_for("/ready")
        yield Running(context, app)


def improved(running: Running, words: str) -> int:
    """A new version of the detector's prompt."""
    store = running.context.prompt_store
    text = store.get(NAME, 1).text.replace("You judge one payment", f"{words} You judge one payment")
    return store.save(NAME, text, source="test").version


def test_a_promoted_prompt_arrives_under_load_and_so_does_its_rollback(running: Running):
    store = running.context.prompt_store
    version = improved(running, "Be careful.")
    with load_on(running.app) as load:
        load.wait_for(f"{NAME} v1")
        store.promote(NAME, version, by="test", why="a better text")
        load.wait_for(f"{NAME} v{version}")
        arrived = time.monotonic()
        time.sleep(0.3)
        back = time.monotonic()
        store.rollback(NAME, by="test", why="it was not better")
        load.wait_for(f"{NAME} v1")
        time.sleep(0.2)
    assert not load.failed
    labels = [label for label, _, _ in sorted(load.answers, key=lambda answer: answer[1])]
    assert set(labels) == {f"{NAME} v1", f"{NAME} v{version}"}
    during = {label for label, left, came in load.answers if left > arrived and came < back}
    assert during == {f"{NAME} v{version}"}, "once one request has met it, all later ones do"
    assert labels[-1] == f"{NAME} v1"


def test_an_admin_need_not_wait_for_the_interval(running: Running):
    store, version = running.context.prompt_store, improved(running, "Be quick.")
    with load_on(running.app, clients=2) as load:
        load.wait_for(f"{NAME} v1")
        store.promote(NAME, version, by="test", why="now")
        answer = httpx.post(f"{running.app.url}/admin/refresh", timeout=30)
        asked = time.monotonic()
        load.wait_for(f"{NAME} v{version}")
        back = time.monotonic()
        store.rollback(NAME, by="test", why="the next test begins with v1")
        httpx.post(f"{running.app.url}/admin/refresh", timeout=30).raise_for_status()
        load.wait_for(f"{NAME} v1")
    prompts = answer.json()["prompts"]
    assert answer.status_code == 200 and prompts["source"] == "registry" and prompts["error"] is None
    assert prompts["production"][NAME] == f"{NAME} v{version}"
    during = {label for label, left, came in load.answers if left > asked and came < back}
    assert during <= {f"{NAME} v{version}"} and not load.failed


def test_without_registry_and_mirror_the_last_known_good_answers(running: Running, workspace: Workspace):
    app = running.app
    with load_on(app, clients=2) as load:
        with fault(workspace, PROMPT_REGISTRY, status=500):
            answer = httpx.post(f"{app.url}/admin/refresh", timeout=30)
            assert answer.status_code == 200 and answer.json()["prompts"]["source"] == "mirror"
            health = prompts_of(app)
            assert health["source"] == "mirror" and health["error"], "health says what is wrong with the registry"
            with fault(workspace, FILES, status=500):
                refused = httpx.post(f"{app.url}/admin/refresh", timeout=30)
                assert refused.status_code == 503 and refused.json()["error"]["type"] == "unavailable"
                assert "those in memory stay" in refused.json()["error"]["message"]
                health = prompts_of(app)
                assert health["source"] == "memory" and "mirror" in health["error"]
                assert httpx.get(f"{app.url}/ready").status_code == 200
                load.wait_for(f"{NAME} v1")
        assert httpx.post(f"{app.url}/admin/refresh", timeout=30).json()["prompts"]["source"] == "registry"
    assert not load.failed and {label for label, _, _ in load.answers} == {f"{NAME} v1"}


def test_the_store_of_an_app_knows_what_its_agents_fill(running: Running):
    with pytest.raises(InvalidInput, match="merchant_rating") as caught:
        running.context.prompt_store.save(NAME, "Judge.\n---\n{{payment}} {{findings}} {{similar}} {{merchant_rating}}")
    assert caught.value.field == "text"
