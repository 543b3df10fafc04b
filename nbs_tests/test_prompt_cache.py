"""The cache answers from memory, always; the last known good survives the workspace; a share tries the challenger."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lib.core import InvalidInput, NotFound, Unavailable
from lib.prompts import Prompt, PromptCache, Snapshot

TEXT = "Be brief.\n---\nSay {{what}} to {{whom}}.\n"
TWO = {("greet", number): Prompt("greet", number, TEXT) for number in (1, 2)}


class Shelf:
    """What a cache loads from, until it is told to fail."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.prompts = {("greet", 1): Prompt("greet", 1, TEXT)}
        self.loaded = threading.Event()

    def load(self) -> Any:
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


def test_production_is_looked_up_by_default():
    cache = PromptCache(lambda: Snapshot(TWO, {"greet": {"production": 1, "challenger": 2, "gone": 7}}))
    cache.refresh()
    versions = {which: cache.lookup("greet", which).version for which in (None, "production", "challenger", 1, 2)}
    assert versions == {None: 1, "production": 1, "challenger": 2, 1: 1, 2: 2}
    assert cache.status()["production"] == {"greet": "greet v1"}
    with pytest.raises(NotFound, match="greet gone in memory"):
        cache.lookup("greet", "gone")


def test_a_production_that_cannot_be_used_leaves_the_last_good_one(shelf: Shelf):
    cache = PromptCache(shelf.load, [Prompt("greet", 0, TEXT)], shares={"greet": 1.0})
    unusable = {("greet", "production"): "v2 is no text", ("greet", "challenger"): "neither is v1"}
    shelf.prompts = Snapshot(TWO, {"greet": {"production": 2, "challenger": 1}}, problems=unusable)
    cache.refresh()
    assert cache.lookup("greet").version == 0, "what the app was released with"
    shelf.prompts = Snapshot(TWO, {"greet": {"production": 1}})
    cache.refresh()
    shelf.prompts = Snapshot(TWO, {"greet": {"production": 2, "challenger": 1}}, problems=unusable)
    assert cache.refresh() is True
    assert (cache.lookup("greet").version, cache.choose("greet", "customer-1").version) == (1, 1)
    assert (cache.status()["source"], cache.status()["error"]) == ("registry", "v2 is no text; neither is v1")


def test_the_mirror_is_told_and_a_mirror_that_may_not_be_written_is_no_error(shelf: Shelf):
    cache = PromptCache(shelf.load)
    for source, error in (("registry", None), ("mirror", "told")):
        shelf.prompts = Snapshot(TWO, source=source, note="told")
        cache.refresh()
        assert (cache.status()["source"], cache.status()["error"]) == (source, error)


KEYS = [f"customer-{number}" for number in range(5_000)]


def chosen(share: float, name: str = "greet") -> set[str]:
    """The keys that the challenger answers."""
    prompts = {(name, number): Prompt(name, number, TEXT) for number in (1, 2)}
    cache = PromptCache(lambda: Snapshot(prompts, {name: {"production": 1, "challenger": 2}}), shares={name: share})
    cache.refresh()
    return {key for key in KEYS if cache.choose(name, key).version == 2}


def test_a_share_of_all_keys_meets_the_challenger():
    assert chosen(0) == set() and chosen(1) == set(KEYS)
    tenth, third = chosen(0.1), chosen(1 / 3)
    assert 0.08 < len(tenth) / len(KEYS) < 0.12
    assert 0.31 < len(third) / len(KEYS) < 0.36
    assert tenth < third, "raising the share moves nobody back"
    assert chosen(1 / 3) == third, "the same key, the same answer"
    other = chosen(1 / 3, "other")
    assert 0.08 < len(third & other) / len(KEYS) < 0.14, "two prompts are split independently"


def test_without_a_share_or_a_challenger_there_is_production():
    cache = PromptCache(lambda: Snapshot(TWO, {"greet": {"production": 1, "challenger": 2}}))
    cache.refresh()
    assert cache.choose("greet", "customer-1").version == 1
    alone = PromptCache(lambda: Snapshot(TWO, {"greet": {"challenger": 2}}), shares={"greet": 1.0})
    alone.refresh()
    assert alone.choose("greet", "\ud800 is no text, but a key").version == 2
    with pytest.raises(NotFound):
        alone.choose("other", "customer-1")


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_share_is_between_0_and_1(share: float):
    with pytest.raises(InvalidInput, match="greet") as caught:
        PromptCache(dict, shares={"greet": share})
    assert caught.value.field == "shares.greet"
