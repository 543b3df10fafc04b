"""Prompts: immutable numbered versions under concurrent writers, and a cache that survives the workspace."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from databricks.sdk.service.catalog import VolumeType

from lib.core import ConfigurationError, InvalidInput, NotFound, Unavailable, new_id
from lib.prompts import Prompt, PromptCache, PromptStore
from lib.settings import Settings, load_settings
from lib.workspace import Workspace

TEXT = "Be brief.\n---\nSay {{what}} to {{whom}}.\n"


@pytest.fixture(scope="module")
def settings(environment: dict[str, str]) -> Settings:
    return replace(load_settings(environment), schema=f"prompts_{new_id()[:8]}")


@pytest.fixture(scope="module")
def ground(settings: Settings) -> Workspace:
    workspace = Workspace(settings)
    workspace.client.schemas.create(settings.schema, settings.catalog)
    return workspace


@pytest.fixture
def store(ground: Workspace, settings: Settings) -> PromptStore:
    """A store over an empty volume of its own."""
    volume = f"prompts_{new_id()[:8]}"
    ground.client.volumes.create(settings.catalog, settings.schema, volume, VolumeType.MANAGED)
    return PromptStore(ground, replace(settings, prompts_volume=volume))


def test_the_constant_part_is_the_system_message():
    messages = Prompt("greet", 1, TEXT).messages(what="hello", whom="you")
    assert messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello to you."}]


def test_a_text_without_a_line_is_a_user_message():
    assert Prompt("greet", 1, "Hi {{ name }}!").messages(name="Ann") == [{"role": "user", "content": "Hi Ann!"}]


def test_only_the_first_line_divides():
    system, user = Prompt("greet", 1, "a\n---\nb\n---\nc").messages()
    assert (system["content"], user["content"]) == ("a", "b\n---\nc")


def test_values_are_data_and_never_templates():
    message = Prompt("greet", 1, "{{a}} {{b}}").messages(a="{{b}} \\1 --- {}", b={"quote": 'é"'})[0]["content"]
    assert message == '{{b}} \\1 --- {} {"quote": "é\\""}'


@pytest.mark.parametrize(
    ("values", "problem"),
    [({"what": 1}, "needs whom"), ({"what": 1, "whom": 2, "why": 3}, "does not know why"), ({}, "needs what, whom")],
)
def test_missing_and_unknown_values_are_named(values: dict, problem: str):
    with pytest.raises(InvalidInput, match=f"greet v1 {problem}"):
        Prompt("greet", 1, TEXT).messages(**values)


@pytest.mark.parametrize("text", ["", "---\n", "only constant\n---\n", "for {{bank}}\n---\n{{x}}"])
def test_a_text_that_is_not_well_formed_is_refused(store: PromptStore, text: str):
    with pytest.raises(InvalidInput) as caught:
        store.save("greet", text)
    assert caught.value.field == "text"
    assert store.versions() == {}


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b", "é", "1st", "a" * 65, "a.txt"])
def test_a_name_that_is_no_file_name_is_refused(store: PromptStore, name: str):
    with pytest.raises(InvalidInput) as caught:
        store.save(name, TEXT)
    assert caught.value.field == "name"


def test_a_version_is_readable_text_with_metadata_beside_it(store: PromptStore):
    store.save("greet", TEXT, author="us")
    assert store.workspace.read_file(f"{store.folder}/greet_v1.txt").decode() == TEXT
    about = json.loads(store.workspace.read_file(f"{store.folder}/greet_v1_metadata.json"))
    assert (about["name"], about["version"], about["author"]) == ("greet", 1, "us")


def test_v10_comes_after_v9(store: PromptStore):
    for number in range(1, 12):
        store.save("greet", f"Version {number}: {{{{x}}}}")
    assert store.versions() == {"greet": list(range(1, 12))}
    assert store.get("greet").version == 11
    assert [prompt.version for prompt in store.list("greet")] == list(range(1, 12))
    cache = PromptCache(store.load)
    cache.refresh()
    assert cache.lookup("greet").version == 11


def test_a_name_may_look_like_a_version(store: PromptStore):
    store.save("greet_v2", TEXT)
    store.save("greet", TEXT)
    assert store.versions() == {"greet": [1], "greet_v2": [1]}


def test_writers_at_once_get_different_versions(store: PromptStore):
    texts = [f"Writer {number}: {{{{x}}}}\n" for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        saved = list(pool.map(lambda text: store.save("greet", text), texts))
    assert sorted(prompt.version for prompt in saved) == list(range(1, 13))
    assert [prompt.text for prompt in saved] == texts
    fresh = PromptStore(store.workspace, replace(store.workspace.settings, prompts_volume=Path(store.folder).name))
    assert {prompt.version: prompt.text for prompt in fresh.list()} == {prompt.version: prompt.text for prompt in saved}


def test_what_is_not_there_is_named(store: PromptStore):
    store.save("greet", TEXT)
    store.save("greet", TEXT + "!")
    with pytest.raises(NotFound, match=r"greet v7: it has v1, v2"):
        store.get("greet", 7)
    with pytest.raises(NotFound, match=r"other : there is no prompt"):
        store.get("other")


def test_other_files_in_the_volume_are_left_alone(store: PromptStore):
    for name in ("README.md", "greet_v0.txt", "greet_v1.md", "greet.txt", "a b_v1.txt"):
        store.workspace.write_file(f"{store.folder}/{name}", b"hello")
    assert store.versions() == {}


def test_a_version_between_its_two_files_is_read_again(store: PromptStore):
    store.workspace.write_file(f"{store.folder}/greet_v1.txt", TEXT.encode())
    assert store.get("greet").metadata == {}
    store.workspace.write_file(f"{store.folder}/greet_v1_metadata.json", b'{"author": "slow"}')
    assert store.get("greet").metadata == {"author": "slow"}


@pytest.mark.parametrize(("file", "content"), [("greet_v1.txt", b"\xff"), ("greet_v1_metadata.json", b"{half")])
def test_a_damaged_file_is_named(store: PromptStore, file: str, content: bytes):
    store.save("greet", TEXT)
    store.workspace.write_file(f"{store.folder}/{file}", content, overwrite=True)
    with pytest.raises(ConfigurationError, match="greet_v1"):
        store.load()


def test_a_diff_shows_what_changed(store: PromptStore):
    store.save("greet", TEXT)
    store.save("greet", TEXT.replace("brief", "polite"))
    diff = store.diff("greet", 1).splitlines()
    assert diff[:2] == ["--- greet v1", "+++ greet v2"]
    assert {"-Be brief.", "+Be polite."} <= set(diff)


def test_sync_saves_what_no_version_has(store: PromptStore, tmp_path: Path):
    (tmp_path / "greet.txt").write_text(TEXT)
    (tmp_path / "notes.md").write_text("no prompt")
    assert [prompt.label for prompt in store.sync(tmp_path)] == ["greet v1"]
    (tmp_path / "greet.txt").write_bytes(TEXT.replace("\n", "\r\n").encode())
    assert store.sync(tmp_path) == ()
    (tmp_path / "greet.txt").write_text(TEXT + "Now.\n")
    assert [prompt.label for prompt in store.sync(tmp_path)] == ["greet v2"]
    (tmp_path / "greet.txt").write_text(TEXT)
    assert store.sync(tmp_path) == ()


class Shelf:
    """What a cache loads from, until it is told to fail."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.prompts = {("greet", 1): Prompt("greet", 1, TEXT)}
        self.loaded = threading.Event()

    def load(self) -> dict[tuple[str, int], Prompt]:
        self.loaded.set()
        if self.failure:
            raise self.failure
        return self.prompts


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def cache(shelf: Shelf) -> Iterator[PromptCache]:
    cache = PromptCache(shelf.load)
    cache.refresh()
    shelf.loaded.clear()
    yield cache
    cache.stop()


def test_a_failed_refresh_keeps_the_last_known_good(cache: PromptCache, shelf: Shelf):
    shelf.failure = Unavailable("the workspace is away")
    assert cache.refresh() is False
    assert cache.lookup("greet").version == 1
    assert cache.status()["error"] == "the workspace is away"
    shelf.failure, shelf.prompts = None, shelf.prompts | {("greet", 2): Prompt("greet", 2, TEXT)}
    assert cache.refresh() is True
    assert (cache.lookup("greet").version, cache.lookup("greet", 1).version) == (2, 1)
    assert cache.status()["error"] is None


def test_the_first_refresh_has_nothing_to_keep(shelf: Shelf):
    shelf.failure = Unavailable("the workspace is away")
    with pytest.raises(Unavailable):
        PromptCache(shelf.load).refresh()


def test_a_lookup_never_loads(cache: PromptCache, shelf: Shelf):
    assert cache.lookup("greet") is shelf.prompts["greet", 1]
    with pytest.raises(NotFound, match=r"greet v2 .*greet v1"):
        cache.lookup("greet", 2)
    with pytest.raises(NotFound, match="nothing was loaded yet"):
        PromptCache(shelf.load).lookup("greet")
    assert not shelf.loaded.is_set()


def test_the_background_outlives_any_failure_and_stops(cache: PromptCache, shelf: Shelf):
    shelf.failure = RuntimeError("nobody thought of this")
    cache.start(0.01)
    for _ in range(2):
        shelf.loaded.clear()
        assert shelf.loaded.wait(10)
    assert cache.status()["running"]
    shelf.failure, shelf.prompts = None, {("greet", 2): Prompt("greet", 2, TEXT)}
    for _ in range(2):
        shelf.loaded.clear()
        assert shelf.loaded.wait(10)
    cache.stop()
    assert cache.lookup("greet").version == 2
    assert not cache.status()["running"]
    assert "prompt-refresh" not in {thread.name for thread in threading.enumerate()}
