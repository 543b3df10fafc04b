"""Config: what a wrong, odd or hostile file does."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lib.config import ConfigStore, parse_config
from lib.core import ConfigurationError, NotFound, new_id
from lib.settings import Settings, load_settings
from lib.workspace import Workspace

ROOT = Path(__file__).parent.parent
AGENT = "agents: {a: {class: 'm:C', options: {value: '%s'}}}"


@pytest.mark.parametrize("target", ["local", "dev", "prod"])
def test_the_files_of_the_repository_are_valid_for_every_target(target: str):
    settings = load_settings({"SOTA_TARGET": target})
    store = ConfigStore(None, settings)
    folder = ROOT / "app" / "config"
    texts = {name: (folder / name).read_text() for name in store.files}
    config = parse_config(texts, store.variables)
    assert config.agents
    assert "${" not in config.model_dump_json()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("serving: {retries: -1}", "f.yaml: serving.retries"),
        ("serving: {retries: 1.5}", "f.yaml: serving.retries"),
        ("serving: {timeout_seconds: 0}", "f.yaml: serving.timeout_seconds"),
        ("serving: {timeout_seconds: .nan}", "f.yaml: serving.timeout_seconds"),
        ("serving: 3", "f.yaml: serving"),
        ("servings: {}", "f.yaml: servings"),
        ("agents: {a: null}", "f.yaml: agents.a"),
        ("agents: {a: {class: 'os:system', execution_mode: thread}}", "f.yaml: agents.a.execution_mode"),
        ("agents: {a: {class: 'm:C()'}}", "f.yaml: agents.a.class"),
        ("agents: {a: {class: 'm:C', options: {list: ['${NOPE}']}}}", "f.yaml: agents.a.options.list.0: ${NOPE}"),
        ("serving:\n  retries: 1\n  retries: 1", "f.yaml line 3: retries is written twice"),
        ("serving: {retries: 1", "f.yaml line 1"),
        ("a: !!python/object/apply:os.system [x]", "f.yaml line 1"),
        ("? [a]\n: 1", "f.yaml line 1"),
        ("a: 1\n---\nb: 2", "f.yaml line 2"),
        ("\x00", "f.yaml"),
        ("just words", "f.yaml"),
        ("[]", "f.yaml"),
    ],
)
def test_a_mistake_is_reported_with_its_place(text: str, told: str):
    with pytest.raises(ConfigurationError) as caught:
        parse_config({"f.yaml": text}, {})
    assert told in str(caught.value)


def test_all_mistakes_are_reported_each_with_its_own_file():
    texts = {"base.yaml": "serving: {retries: 99}", "over.yaml": "limits: {max_body_bytes: 0}"}
    with pytest.raises(ConfigurationError) as caught:
        parse_config(texts, {})
    assert [line.split(": ")[:2] for line in str(caught.value).splitlines()] == [
        ["base.yaml", "serving.retries"],
        ["over.yaml", "limits.max_body_bytes"],
    ]


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("${X}", "one: {two: 3}"),  # a value never becomes YAML
        ("$${X}", "${X}"),
        ("${X}-${Y:-fallback}", "one: {two: 3}-fallback"),
        ("${Y:-}", ""),
        ("${E:-default}", ""),  # empty is a value
        ("$X {X} ${}", "$X {X} ${}"),
        ("${Z}", "${X}"),  # what a variable holds is not resolved again
    ],
)
def test_variables(written: str, means: str):
    variables = {"X": "one: {two: 3}", "E": "", "Z": "${X}"}
    assert parse_config({"f.yaml": AGENT % written}, variables).agents["a"].options == {"value": means}


def test_merging_goes_key_by_key_and_replaces_lists_and_nulls():
    below = "agents: {a: {class: 'm:C', prompt: p, options: {list: [1, 2], keep: 1, deep: {x: 1, y: 2}}}}"
    above = "agents: {a: {prompt: null, options: {list: [3], deep: {y: 3}}}, b: {class: 'm:D'}}"
    agents = parse_config({"below.yaml": below, "above.yaml": above}, {}).agents
    assert agents["a"].prompt is None
    assert agents["a"].options == {"list": [3], "keep": 1, "deep": {"x": 1, "y": 3}}
    assert set(agents) == {"a", "b"}


def test_empty_files_mean_the_defaults_and_anchors_work():
    assert parse_config({"a.yaml": "", "b.yaml": "# nothing\n"}, {}) == parse_config({}, {})
    text = "agents: {a: &a {class: 'm:C', max_retries: 2}, b: {<<: *a, prompt: p}}"
    assert parse_config({"f.yaml": text}, {}).agents["b"].max_retries == 2


@pytest.fixture
def settings(environment: dict[str, str]) -> Iterator[Settings]:
    """Names in a schema that has a `configs` volume and is dropped afterwards."""
    settings = replace(load_settings(environment), schema=f"config_{new_id()[:8]}", target="prod")
    workspace = Workspace(settings)
    workspace.execute(f"CREATE CATALOG IF NOT EXISTS {settings.catalog}")
    workspace.execute(f"CREATE SCHEMA {settings.catalog}.{settings.schema}")
    workspace.execute(f"CREATE VOLUME {settings.full_name(settings.configs_volume)}")
    yield settings
    workspace.execute(f"DROP SCHEMA {settings.catalog}.{settings.schema} CASCADE")


def test_nothing_is_synced_unless_all_files_are_valid_together(settings: Settings, tmp_path: Path):
    store = ConfigStore(Workspace(settings), settings)
    with pytest.raises(ConfigurationError, match=r"has no sota_config\.yaml"):
        store.sync(tmp_path)
    with pytest.raises(NotFound, match=r"has no sota_config\.yaml: `sota-deploy setup`"):
        store.load()
    (tmp_path / "sota_config.yaml").write_text("serving: {retries: 2}")
    assert store.read(tmp_path).serving.retries == 2
    (tmp_path / "sota_config.yaml").write_text("serving: {retries: 1}")
    (tmp_path / "sota_config.prod.yaml").write_text("serving: {retries: many}")
    with pytest.raises(ConfigurationError, match=r"sota_config\.prod\.yaml: serving\.retries"):
        store.sync(tmp_path)
    with pytest.raises(NotFound):
        store.workspace.read_file(f"{store.folder}/sota_config.yaml")


def test_a_changed_file_is_updated_and_other_targets_stay_out(settings: Settings, tmp_path: Path):
    store = ConfigStore(Workspace(settings), settings)
    (tmp_path / "sota_config.yaml").write_text("serving: {retries: 1}")
    (tmp_path / "sota_config.dev.yaml").write_text("serving: {retries: 2}")
    assert store.sync(tmp_path) == {"sota_config.yaml": "created"}
    assert store.load().serving.retries == 1
    (tmp_path / "sota_config.yaml").write_text("serving: {retries: 3}")
    assert store.sync(tmp_path) == {"sota_config.yaml": "updated"}
    assert store.reload()
    assert store.current
    assert store.current.serving.retries == 3


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"serving: {retries: lots}", b"serving: ["])
def test_a_broken_file_in_the_volume_leaves_the_last_good_config(settings: Settings, data: bytes):
    store = ConfigStore(Workspace(settings), settings)
    path = f"{store.folder}/sota_config.yaml"
    store.workspace.write_file(path, b"serving: {retries: 5}")
    good = store.load()
    store.workspace.write_file(path, data, overwrite=True)
    with pytest.raises(ConfigurationError, match=r"sota_config\.yaml"):
        store.reload()
    assert store.current is good
