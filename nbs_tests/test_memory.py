"""Memory on a real index and a real Delta table: idempotent, safe from its own texts, whole again after a failure."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from lib.catalog import Catalog
from lib.config import MemoryConfig, ServingConfig
from lib.core import ConfigurationError, DeadlineExceeded, NotFound, Unavailable, call_scope, new_id
from lib.memory import Memory, MemoryStore
from lib.serving import EMBEDDINGS, Endpoints, EndpointSpec, ModelServingClient
from lib.settings import Settings, load_settings
from lib.workspace import Workspace
from nbs_tests.faulty import faulty_server


@pytest.fixture(scope="module")
def settings(environment: dict[str, str]) -> Settings:
    return replace(load_settings(environment), schema=f"memory_{new_id()[:8]}")


@pytest.fixture(scope="module")
def ground(settings: Settings) -> Workspace:
    workspace = Workspace(settings)
    Catalog(workspace, settings).setup()
    Endpoints(workspace).ensure(EndpointSpec(settings.embedding_endpoint, settings.embedding_entity, EMBEDDINGS))
    return workspace


@pytest.fixture(scope="module")
async def serving(ground: Workspace) -> AsyncIterator[ModelServingClient]:
    client = ModelServingClient(ground.client.config.host, ground.auth_headers, ServingConfig())
    yield client
    await client.aclose()


@pytest.fixture(scope="module")
def memory(ground: Workspace, serving: ModelServingClient, settings: Settings) -> MemoryStore:
    store = MemoryStore(ground, serving, settings, MemoryConfig(top_k=3))
    assert (store.ensure(), store.ensure()) == ("created", "unchanged")
    return store


@pytest.fixture
def agent() -> str:
    """An agent whose memories no other test sees."""
    return f"agent_{new_id()[:8]}"


def rows(memory: MemoryStore, agent: str) -> list[dict]:
    statement = f"SELECT * FROM {memory._record.table} WHERE agent_name = :agent ORDER BY memory_id"
    return memory._record.workspace.sql(statement, agent=agent)


async def test_what_is_stored_is_found_as_it_was(memory: MemoryStore, agent: str):
    data = {"amount": 12.5, "who": "O'Brien", "nested": {"é": [1, None]}}
    stored = await memory.store(agent, "a red bicycle was sold", data, "sale-1", "genuine")
    [found] = await memory.retrieve("somebody sold a bike", agent_name=agent)
    assert (found.memory_id, found.content, found.data) == (stored, "a red bicycle was sold", data)
    assert (found.agent_name, found.subject_id, found.outcome) == (agent, "sale-1", "genuine")
    assert 0 < found.score <= 1
    assert found.created_at.tzinfo is not None
    [row] = rows(memory, agent)
    assert (row["content"], row["outcome"]) == (found.content, "genuine")
    assert abs(row["created_at"] - found.created_at) < timedelta(milliseconds=1)  # what the statement API shows


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE memory; --", 'say "hi" \\ :rows ${x} {{y}}', "zażółć 🚲\n\ttab", "x" * 20_000]
)
async def test_a_text_is_never_part_of_a_statement(memory: MemoryStore, agent: str, text: str):
    await memory.store(agent, text, {"text": text}, subject_id=text[:50], outcome=text[:50])
    [row] = rows(memory, agent)
    assert (row["content"], row["outcome"]) == (text, text[:50])
    [found] = await memory.retrieve(text, agent_name=agent)
    assert (found.content, found.data) == (text, {"text": text})


async def test_storing_again_replaces_and_never_doubles(memory: MemoryStore, agent: str):
    one = new_id()
    for outcome in ("review", "fraud"):
        assert await memory.store(agent, "a case", outcome=outcome, memory_id=one) == one
    assert [row["outcome"] for row in rows(memory, agent)] == ["fraud"]
    assert [found.outcome for found in await memory.retrieve("a case", agent_name=agent)] == ["fraud"]


async def test_many_writers_at_once_lose_nothing(memory: MemoryStore, agent: str):
    stored = await asyncio.gather(*(memory.store(agent, f"case number {number}") for number in range(12)))
    assert [row["memory_id"] for row in rows(memory, agent)] == sorted(stored)


async def test_two_writers_of_one_id_make_one_memory(memory: MemoryStore, agent: str):
    one = new_id()
    await asyncio.gather(
        *(memory.store(agent, "a case", outcome=outcome, memory_id=one) for outcome in ("fraud", "genuine"))
    )
    assert len(rows(memory, agent)) == 1


async def test_a_bulk_counts_each_id_once(memory: MemoryStore, agent: str):
    before = await memory.count()
    notes = [Memory(agent, f"note {number % 150}", memory_id=f"{agent}-{number % 150:03}") for number in range(160)]
    assert await memory.store_many(notes) == 150
    assert await memory.count() == before + 150
    assert await memory.store_many([]) == 0


async def test_filters_and_top_k(memory: MemoryStore, agent: str):
    for number in range(4):
        await memory.store(agent, f"a fraud case {number}", outcome="fraud")
    await memory.store(agent, "a genuine case", outcome="genuine")
    await memory.store(f"{agent}_other", "a fraud case", outcome="fraud")
    assert len(await memory.retrieve("a case", agent_name=agent)) == 3
    every = await memory.retrieve("a case", top_k=10, agent_name=agent)
    assert len(every) == 5
    assert {found.agent_name for found in every} == {agent}
    assert [found.score for found in every] == sorted((found.score for found in every), reverse=True)
    [genuine] = await memory.retrieve("a case", top_k=10, agent_name=agent, outcome="genuine")
    assert genuine.content == "a genuine case"


async def test_the_table_says_what_is_true_today(memory: MemoryStore, agent: str):
    kept, gone = [await memory.store(agent, text, outcome="review") for text in ("a kept case", "a gone case")]
    sql, table = memory._record.workspace.execute, memory._record.table
    sql(f"UPDATE {table} SET outcome = 'fraud' WHERE memory_id = :id", id=kept)
    sql(f"DELETE FROM {table} WHERE memory_id = :id", id=gone)
    assert [(found.memory_id, found.outcome) for found in await memory.retrieve("case", agent_name=agent)] == [
        (kept, "fraud")
    ]
    assert await memory.retrieve("case", agent_name=agent, outcome="review") == []


async def test_hits_older_than_the_newest_rows_are_looked_up(
    memory: MemoryStore, agent: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lib.memory._RECENT", 1)
    stored = {await memory.store(agent, f"case {number}") for number in range(3)}
    assert {found.memory_id for found in await memory.retrieve("case", agent_name=agent)} == stored


@pytest.fixture
def without_index(ground: Workspace, serving: ModelServingClient, settings: Settings) -> MemoryStore:
    return MemoryStore(ground, serving, replace(settings, memory_index="nowhere"), MemoryConfig())


async def test_without_the_index_the_record_is_kept_and_repaired(
    memory: MemoryStore, without_index: MemoryStore, agent: str
):
    one = new_id()
    with pytest.raises(NotFound, match=f"{one}: the index entry is missing"):
        await without_index.store(agent, "a case", memory_id=one)
    assert [row["memory_id"] for row in rows(memory, agent)] == [one]
    assert await memory.retrieve("a case", agent_name=agent) == []
    await memory.store(agent, "a case", memory_id=one)
    assert [found.memory_id for found in await memory.retrieve("a case", agent_name=agent)] == [one]
    assert len(rows(memory, agent)) == 1


async def test_a_search_without_the_index_is_an_error(without_index: MemoryStore):
    with pytest.raises(NotFound, match="nowhere"):
        await without_index.retrieve("a case")


@pytest.fixture
def without_table(memory: MemoryStore) -> Iterator[MemoryStore]:
    table = memory._record.table
    memory._record.table = f"{table}_nowhere"
    yield memory
    memory._record.table = table


async def test_without_the_table_a_search_uses_the_copies(
    without_table: MemoryStore, agent: str, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(NotFound, match="the Delta row is missing"):
        await without_table.store(agent, "a case", {"n": 1}, outcome="fraud")
    [found] = await without_table.retrieve("a case", agent_name=agent)
    assert (found.data, found.outcome) == ({"n": 1}, "fraud")
    assert "the memory table did not answer" in caplog.text


async def test_without_embeddings_the_record_is_kept(
    ground: Workspace, memory: MemoryStore, settings: Settings, agent: str
):
    with faulty_server() as down:
        serving = ModelServingClient(down.url, dict, ServingConfig(retries=0, timeout_seconds=1))
        store = MemoryStore(ground, serving, replace(settings, embedding_endpoint="embed"), MemoryConfig())
        down.faults["embed"] = ["drop", "drop"]
        with pytest.raises(Unavailable, match="the index entry is missing"):
            await store.store(agent, "a case")
        with pytest.raises(Unavailable):
            await store.retrieve("a case")
        await serving.aclose()
    assert len(rows(memory, agent)) == 1


async def test_the_deadline_holds(memory: MemoryStore, agent: str):
    with call_scope(timeout=0.001):
        with pytest.raises(DeadlineExceeded):
            await memory.retrieve("a case", agent_name=agent)
        with pytest.raises(DeadlineExceeded):
            await memory.store(agent, "a case")


async def test_the_index_is_made_again_from_the_table(
    memory: MemoryStore, ground: Workspace, agent: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lib.memory._PAGE", 60)
    stored = {await memory.store(agent, f"case {number}") for number in range(5)}
    ground.client.vector_search_indexes.delete_index(memory._index.name)
    assert memory.ensure() == "created"
    assert await memory.retrieve("case", agent_name=agent) == []
    assert await memory.rebuild() == await memory.count()
    assert {found.memory_id for found in await memory.retrieve("case", top_k=9, agent_name=agent)} == stored


def test_an_index_of_another_size_is_refused(
    memory: MemoryStore, ground: Workspace, serving: ModelServingClient, settings: Settings
):
    other = MemoryStore(ground, serving, replace(settings, embedding_dimension=7), MemoryConfig())
    with pytest.raises(ConfigurationError, match="7"):
        other.ensure()
