"""Prompts: immutable versions in the registry under concurrent writers, their mirror, and moves on record."""

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import lib.prompt_registry
from lib.catalog import Catalog
from lib.core import ConfigurationError, InvalidInput, NotFound, PermissionDenied, Unavailable, new_id
from lib.prompts import PromptCache, PromptStore
from lib.settings import Settings, load_settings
from lib.workspace import Workspace
from nbs_tests.faults import FILES, PROMPT_REGISTRY, fault
from nbs_tests.house import ROOT
from nbs_tests.processes import Workspace as Running

TEXT = "Be brief.\n---\nSay {{what}} to {{whom}}.\n"


@pytest.fixture(scope="module")
def settings(environment: dict[str, str]) -> Settings:
    return replace(load_settings(environment), schema=f"prompts_{new_id()[:8]}")


@pytest.fixture(scope="module")
def ground(settings: Settings) -> Workspace:
    workspace = Workspace(settings)
    Catalog(workspace, settings).setup()
    return workspace


@pytest.fixture
def store(ground: Workspace, settings: Settings) -> PromptStore:
    return PromptStore(ground, settings)


@pytest.fixture
def name() -> str:
    """A prompt of its own."""
    return f"greet_{new_id()[:8]}"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lib.prompt_registry, "_RETRY_SECONDS", 1)


def mirrored(store: PromptStore, file: str) -> bytes:
    return store.workspace.read_file(f"{store.mirror.folder}/{file}")


def test_a_version_is_readable_text_with_metadata_beside_it(store: PromptStore, name: str):
    given = {"author": "us", "seed": 7, "code": "7", "scores": {"train": [0.5, None]}, "why": "größer “is” better"}
    saved = store.save(name, TEXT, **given)
    assert saved.label == f"{name} v1" and given.items() <= saved.metadata.items()
    assert mirrored(store, f"{name}_v1.txt").decode() == TEXT
    assert json.loads(mirrored(store, f"{name}_v1_metadata.json")) == saved.metadata
    again = PromptStore(store.workspace, store.workspace.settings).get(name, 1)
    assert again == saved and again.metadata == saved.metadata


def test_v10_comes_after_v9(store: PromptStore, name: str):
    for number in range(1, 12):
        store.save(name, f"Version {number}: {{{{x}}}}")
    assert store.versions()[name] == list(range(1, 12))
    assert store.get(name).version == 11
    assert [prompt.version for prompt in store.list(name)] == list(range(1, 12))


def test_a_name_may_look_like_a_version(store: PromptStore, name: str):
    store.save(f"{name}_v2", TEXT)
    store.save(name, TEXT)
    found = store.versions()
    assert (found[name], found[f"{name}_v2"]) == ([1], [1])


def test_writers_at_once_get_different_versions(store: PromptStore, name: str):
    texts = [f"Writer {number}: {{{{x}}}}\n" for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        saved = list(pool.map(lambda text: store.save(name, text), texts))
    assert sorted(prompt.version for prompt in saved) == list(range(1, 13))
    assert [prompt.text for prompt in saved] == texts
    assert {prompt.version: prompt.text for prompt in store.list(name)} == {p.version: p.text for p in saved}
    assert all(mirrored(store, f"{name}_v{p.version}.txt").decode() == p.text for p in saved)


def test_what_is_not_there_is_named(store: PromptStore, name: str):
    store.save(name, TEXT)
    store.save(name, TEXT + "!", alias="challenger")
    with pytest.raises(NotFound, match=rf"{name} v7: it has v1, v2, challenger"):
        store.get(name, 7)
    with pytest.raises(NotFound, match=rf"{name} production: it has"):
        store.get(name, "production")
    with pytest.raises(NotFound, match=r"other : there is no prompt"):
        store.get("other")


@pytest.mark.parametrize(
    ("text", "options", "field"),
    [
        ("", {}, "text"),
        (None, {}, "text"),
        ("for {{bank}}\n---\n{{x}}", {}, "text"),
        (TEXT, {"alias": "v3"}, "alias"),
        (TEXT, {"alias": "latest"}, "alias"),
        (TEXT, {"alias": "a b"}, "alias"),
        (TEXT, {"version": 3}, "metadata.version"),
        (TEXT, {"_mlflow_prompt_type": "chat"}, "metadata._mlflow_prompt_type"),
        (TEXT, {"a.b": 1}, "metadata.a.b"),
        (TEXT, {"why": 3}, "metadata.why"),
        (TEXT, {"parent": "half \ud800"}, "metadata.parent"),
        (TEXT + "\ud800", {}, "text"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    store: PromptStore, name: str, text: str, options: dict, field: str
):
    with pytest.raises(InvalidInput) as caught:
        store.save(name, text, **options)
    assert caught.value.field == field
    assert name not in store.versions()


def test_a_text_whose_blanks_the_agent_does_not_fill_is_refused(ground: Workspace, settings: Settings, name: str):
    store = PromptStore(ground, settings, {name: frozenset({"what", "whom"})})
    with pytest.raises(
        InvalidInput, match=r"lacks \{\{whom\}\}, has \{\{who\}\}: its agent fills what, whom"
    ) as caught:
        store.save(name, "{{what}} {{who}}")
    assert caught.value.field == "text"
    assert store.save(name, TEXT).version == 1
    PromptStore(ground, settings).save(name, "{{other}}", alias="challenger")
    with pytest.raises(InvalidInput, match="its agent fills"):
        store.promote(name, 2, by="us", why="to see")
    found = store.load()
    assert "challenger cannot be used" in found.problems[name, "challenger"]
    assert (found.get(name).version, found.aliases[name]) == (2, {"challenger": 2})
    with pytest.raises(NotFound, match="challenger: it has v1, v2"):
        found.get(name, "challenger")


def test_a_diff_shows_what_changed(store: PromptStore, name: str):
    store.save(name, TEXT, alias="production")
    store.save(name, TEXT.replace("brief", "polite"))
    assert store.diff(name, 2).splitlines()[:2] == [f"--- {name} v2", f"+++ {name} v1"]
    assert {"-Be brief.", "+Be polite."} <= set(store.diff(name, "production", 2).splitlines())


def test_production_is_what_agents_get(store: PromptStore, name: str):
    for text in (TEXT, TEXT + "!", TEXT + "?"):
        store.save(name, text)
    move = store.promote(name, 2, by="us", why="best so far", evidence="verdict.json")
    assert (move.from_version, move.to_version, move.moved_by) == (None, 2, "us")
    assert store.get(name).version == store.get(name, "production").version == 2
    assert store.aliases(name) == {"production": 2}
    assert json.loads(mirrored(store, f"{name}_aliases.json")) == {"production": 2}
    assert [asdict(known) for known in store.history(name)] == [asdict(move)]
    assert store.promote(name, 2, by="us", why="once more") == move
    with pytest.raises(NotFound, match="it has v1, v2, v3, production"):
        store.promote(name, 9, by="us", why="to see")
    with pytest.raises(InvalidInput, match="why is empty"):
        store.promote(name, 1, by="us", why=" ")
    with pytest.raises(InvalidInput, match="why: character 6 is half of one"):
        store.promote(name, 1, by="us", why="half \udcff")  # what a terminal gives for bytes that are no UTF-8
    assert store.aliases(name) == {"production": 2}


def test_rolling_back_goes_back_and_never_forth(store: PromptStore, name: str):
    for number in (1, 2, 3, 4):
        store.save(name, TEXT + "!" * number)
    for number in (1, 2, 3):
        store.promote(name, number, by="gate", why="better")
    store.promote(name, 4, by="gate", why="to compare", alias="challenger")

    def back() -> int | None:
        return store.rollback(name, by="watch", why="worse", evidence="live").to_version

    assert back() == 2
    store.promote(name, 4, by="gate", why="better")
    assert [back(), back()] == [2, 1]
    with pytest.raises(NotFound, match="nothing to roll back to"):
        back()
    assert store.aliases(name) == {"production": 1, "challenger": 4}
    assert len(store.history(name)) == 8


def test_a_rollback_killed_before_its_record_is_finished_and_goes_no_further(store: PromptStore, name: str):
    for number in (1, 2, 3):
        store.promote(name, store.save(name, TEXT + "!" * number).version, by="gate", why="better")
    store.registry.set_alias(name, "production", 2)  # all that the killed one did
    finished = store.rollback(name, by="us", why="worse")
    assert (finished.from_version, finished.to_version) == (3, 2) and finished.undoes
    assert store.aliases(name) == {"production": 2}
    assert store.rollback(name, by="us", why="worse still").to_version == 1


def test_a_move_by_other_hands_is_recorded_and_can_be_taken_back(store: PromptStore, name: str):
    for text in (TEXT, TEXT + "!"):
        store.save(name, text)
    store.promote(name, 1, by="us", why="first")
    store.reconcile()
    store.registry.set_alias(name, "production", 2)
    assert store.reconcile() == [
        f"mirror: wrote {name}_aliases.json",
        f"record: production of {name} was moved from 1 to 2 outside of it",
    ]
    assert store.reconcile() == []
    assert store.history(name)[-1].why == "moved outside of this record"
    store.registry.delete_alias(name, "production")
    assert store.get(name).version == 2
    assert store.rollback(name, by="us", why="it was taken away").to_version == 2
    assert store.rollback(name, by="us", why="it was worse").to_version == 1


def test_sync_saves_what_no_version_has(store: PromptStore, name: str, tmp_path: Path):
    file = tmp_path / f"{name}.txt"

    def sync(text: str) -> list[str]:
        file.write_text(text)
        return [prompt.label for prompt in store.sync(tmp_path)]

    assert sync(TEXT) == [f"{name} v1"] and store.aliases(name) == {"production": 1}
    assert sync(TEXT.replace("\n", "\r\n")) == []
    assert sync(TEXT + "Now.\n") == [f"{name} v2"] and store.aliases(name) == {"production": 2}
    store.rollback(name, by="us", why="worse")
    assert sync(TEXT + "Now.\n") == [] and store.aliases(name) == {"production": 1}
    store.save(name, TEXT + "Optimised.\n", optimizer="gepa")
    store.promote(name, 3, by="gate", why="better")
    assert sync(TEXT + "Later.\n") == [f"{name} v4"]
    assert store.aliases(name) == {"production": 3, "challenger": 4}


def test_sync_goes_on_where_a_kill_ended_it(store: PromptStore, name: str, tmp_path: Path):
    (tmp_path / f"{name}.txt").write_text(TEXT)
    store.save(name, TEXT, source="repository")
    assert store.sync(tmp_path) == () and store.aliases(name) == {"production": 1}
    (tmp_path / f"{name}.txt").write_text(TEXT + "!")
    store.save(name, TEXT + "!", source="repository")
    assert store.sync(tmp_path) == () and store.aliases(name) == {"production": 2}


def test_a_registry_that_is_down_is_read_from_its_mirror(
    workspace: Running, store: PromptStore, name: str, impatient: None
):
    store.save(name, TEXT)
    store.save(name, TEXT + "!", alias="production", author="us")
    known = store.load()
    fresh = PromptStore(store.workspace, store.workspace.settings)
    with fault(workspace, PROMPT_REGISTRY, status=503):
        found = fresh.load()
    with fault(workspace, PROMPT_REGISTRY, status=500):
        assert fresh.get(name).version == 2
    assert (found.source, known.source) == ("mirror", "registry")
    assert (found.prompts, found.aliases[name]) == (known.prompts, {"production": 2})
    assert found.prompts[name, 2].metadata == known.prompts[name, 2].metadata
    assert "prompt registry" in (found.note or "")
    fresh = PromptStore(store.workspace, store.workspace.settings)
    with fault(workspace, PROMPT_REGISTRY, status=503), fault(workspace, FILES, status=503), pytest.raises(Unavailable):
        fresh.load()  # within seconds, not the SDK's minute


def test_when_both_are_down_the_last_known_good_stays(workspace: Running, store: PromptStore, name: str):
    store.save(name, TEXT)
    cache = PromptCache(store.load)
    assert cache.refresh() and cache.status()["source"] == "registry"
    with fault(workspace, PROMPT_REGISTRY, status=500), fault(workspace, FILES, status=500):
        with pytest.raises(Unavailable, match="and the mirror"):
            store.load()
        assert not cache.refresh()
        assert cache.lookup(name).version == 1
        assert (cache.status()["source"], "and the mirror" in cache.status()["error"]) == ("memory", True)
    assert cache.refresh() and cache.status()["error"] is None


def test_without_permission_the_cure_is_named(workspace: Running, store: PromptStore, name: str):
    with fault(workspace, PROMPT_REGISTRY, status=403, error_code="PERMISSION_DENIED"):
        for step in (store.load, lambda: store.save(name, TEXT), lambda: store.promote(name, 1, by="us", why="to see")):
            with pytest.raises(PermissionDenied, match=r"prompt registry of .*grant .* CREATE FUNCTION .* MANAGE"):
                step()


def test_an_app_that_may_only_read_still_loads(workspace: Running, store: PromptStore, name: str):
    store.registry.add(name, TEXT, {})
    with fault(workspace, FILES, method="PUT", status=403, error_code="PERMISSION_DENIED"):
        found = store.load()
        assert found.prompts[name, 1].text == TEXT and "not brought up to date" in (found.note or "")
        later = store.save(name, TEXT + "!")
    assert store.load().note is None
    assert mirrored(store, f"{name}_v2.txt").decode() == later.text


DAMAGED = [("v1.txt", b"\xff"), ("v1_metadata.json", b"{half"), ("aliases.json", b"[]")]


@pytest.mark.parametrize(("file", "content"), DAMAGED, ids=[file for file, _ in DAMAGED])
def test_a_damaged_file_is_named_and_mended(
    workspace: Running, store: PromptStore, name: str, file: str, content: bytes
):
    store.save(name, TEXT, alias="production")
    whole = mirrored(store, f"{name}_{file}")
    store.workspace.write_file(f"{store.mirror.folder}/{name}_{file}", content, overwrite=True)
    fresh = PromptStore(store.workspace, store.workspace.settings)
    with fault(workspace, PROMPT_REGISTRY, status=500), pytest.raises(ConfigurationError, match=f"{name}_{file}"):
        fresh.load()
    assert fresh.reconcile() == [f"mirror: wrote {name}_{file}"]
    assert mirrored(store, f"{name}_{file}") == whole
    with fault(workspace, PROMPT_REGISTRY, status=500):
        assert fresh.get(name).text == TEXT


def test_what_an_earlier_release_left_in_the_volume_gives_way_to_the_registry(store: PromptStore, name: str):
    store.workspace.write_file(f"{store.mirror.folder}/{name}_v1.txt", b"of a time without a registry: {{x}}\n")
    assert store.save(name, TEXT).version == 1
    assert mirrored(store, f"{name}_v1.txt").decode() == TEXT


def test_other_files_in_the_volume_are_left_alone(workspace: Running, store: PromptStore):
    for file in ("README.md", "greet_v0.txt", "greet_v1.md", "greet.txt", "a b_v1.txt"):
        store.workspace.write_file(f"{store.mirror.folder}/{file}", b"\xff", overwrite=True)
    with fault(workspace, PROMPT_REGISTRY, status=500):
        assert not [key for key in store.load().prompts if key[0] in ("greet", "a b", "README")]


KILLED = """
import os, signal, sys
from dataclasses import replace
from lib.prompts import PromptStore
from lib.settings import load_settings
from lib.workspace import Workspace

write_file = Workspace.write_file

def dying(self, path, data, overwrite=False):
    if path.endswith(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    write_file(self, path, data, overwrite)

Workspace.write_file = dying
settings = replace(load_settings(), schema=sys.argv[1])
store = PromptStore(Workspace(settings), settings)
store.save(sys.argv[2], "{{x}}", alias="production", author="a mortal")
"""


@pytest.mark.parametrize(
    ("file", "step"), [("_v1.txt", "load"), ("_metadata.json", "reconcile"), ("_aliases.json", "reconcile")]
)
def test_kill_9_leaves_what_the_next_start_makes_whole(
    store: PromptStore, environment: dict[str, str], settings: Settings, name: str, file: str, step: str
):
    command = [sys.executable, "-c", KILLED, settings.schema, name, file]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    getattr(store, step)()
    saved = store.get(name)
    assert (saved.text, saved.metadata["author"]) == ("{{x}}\n", "a mortal")
    assert mirrored(store, f"{name}_v1.txt").decode() == saved.text
    assert json.loads(mirrored(store, f"{name}_v1_metadata.json")) == saved.metadata
    assert json.loads(mirrored(store, f"{name}_aliases.json")) == store.aliases(name)
    if step == "reconcile":
        assert {move.alias: move.to_version for move in store.history(name)} == store.aliases(name)
