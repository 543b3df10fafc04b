"""The prompt registry of Unity Catalog with MLflow's own client."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import BaseModel

BASE = "/api/2.0/mlflow/unity-catalog/prompts"


class Answer(BaseModel):
    text: str
    score: float


@pytest.fixture(scope="module")
def schema(workspace) -> str:
    """A schema of its own."""
    return workspace.client.schemas.create("prompts", "main").full_name


def test_a_prompt_is_registered_and_loaded(tracked, schema):
    made = tracked.genai.register_prompt(
        name="main.prompts.hello",
        template="Hello {{name}}, größe 'x' \"y\"",
        commit_message="first",
        tags={"author": "me"},
        response_format=Answer,
        model_config={"temperature": 0.1, "max_tokens": 5},
    )
    assert (made.name, made.version) == ("main.prompts.hello", 1)
    found = tracked.genai.load_prompt("main.prompts.hello", version=1)
    assert found.template == "Hello {{name}}, größe 'x' \"y\"" and found.commit_message == "first"
    assert found.format(name="A").startswith("Hello A")
    assert found.tags["author"] == "me" and found.variables == {"name"}
    assert found.response_format["properties"]["score"]["type"] == "number"
    assert found.model_config["temperature"] == 0.1
    assert tracked.genai.load_prompt("prompts:/main.prompts.hello/1").version == 1


def test_chat_templates_keep_their_messages(tracked, schema):
    messages = [{"role": "system", "content": "Be {{tone}}."}, {"role": "user", "content": "{{question}}"}]
    tracked.genai.register_prompt(name="main.prompts.chat", template=messages)
    found = tracked.genai.load_prompt("main.prompts.chat", version=1)
    assert found.template == messages
    assert found.format(tone="kind", question="Why?")[1] == {"role": "user", "content": "Why?"}


def test_aliases_move_and_go(tracked, schema):
    for text in ("one", "two"):
        tracked.genai.register_prompt(name="main.prompts.aliased", template=text)
    tracked.genai.set_prompt_alias("main.prompts.aliased", "production", 1)
    load = tracked.genai.load_prompt
    assert load("prompts:/main.prompts.aliased@production", cache_ttl_seconds=0).template == "one"
    tracked.genai.set_prompt_alias("main.prompts.aliased", "production", 2)
    found = load("prompts:/main.prompts.aliased@production", cache_ttl_seconds=0)
    assert (found.template, found.aliases) == ("two", ["production"])
    tracked.genai.delete_prompt_alias("main.prompts.aliased", "production")
    assert tracked.MlflowClient().get_prompt_version_by_alias("main.prompts.aliased", "production") is None
    with pytest.raises(tracked.exceptions.MlflowException):
        tracked.genai.set_prompt_alias("main.prompts.aliased", "production", 9)


def test_prompts_are_searched_in_a_schema(tracked, schema):
    for name, team in (("find_a", "x"), ("find_b", "y"), ("find_c", "x")):
        tracked.genai.register_prompt(name=f"main.prompts.{name}", template=name, tags={"team": team})
    within = "catalog = 'main' AND schema = 'prompts'"
    search = tracked.MlflowClient().search_prompts
    assert [p.name for p in search(f"{within} AND name LIKE 'find_%'")] == [
        f"main.prompts.find_{letter}" for letter in "abc"
    ]
    assert [p.name for p in search(f"{within} AND tags.`team` = 'x' AND name ILIKE 'FIND%'")] == [
        "main.prompts.find_a",
        "main.prompts.find_c",
    ]
    first = search(f"{within} AND name != 'main.prompts.find_a' AND name LIKE '%find%'", max_results=1)
    rest = search(f"{within} AND name LIKE '%find_c'", max_results=1, page_token=first.token)
    assert [p.name for p in [*first, *rest]] == ["main.prompts.find_b", "main.prompts.find_c"]
    with pytest.raises(tracked.exceptions.RestException, match="conditions are"):
        search(f"{within} AND created > 3")
    with pytest.raises(tracked.exceptions.RestException) as error:
        search("catalog = 'main' AND schema = 'nowhere'")
    assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_versions_are_listed_and_deleted(tracked, schema):
    client = tracked.MlflowClient()
    for number in range(3):
        client.register_prompt("main.prompts.listed", f"text {number}")
    first = client.search_prompt_versions("main.prompts.listed", max_results=2)
    assert [version.version for version in first] == [3, 2]
    with pytest.raises(tracked.exceptions.MlflowException, match="undeleted versions"):
        client.delete_prompt("main.prompts.listed")
    for number in (1, 2, 3):
        client.delete_prompt_version("main.prompts.listed", str(number))
    assert client.register_prompt("main.prompts.listed", "again").version == 4
    client.delete_prompt_version("main.prompts.listed", "4")
    client.delete_prompt("main.prompts.listed")
    assert client.get_prompt("main.prompts.listed") is None


def test_tags_of_prompts_and_versions_are_apart(tracked, schema):
    client = tracked.MlflowClient()
    client.register_prompt("main.prompts.tagged", "text")
    client.set_prompt_tag("main.prompts.tagged", "area/of use", "help")
    client.set_prompt_version_tag("main.prompts.tagged", 1, "judged", "good")
    assert client.get_prompt("main.prompts.tagged").tags == {"area/of use": "help"}
    assert client.get_prompt_version("main.prompts.tagged", 1).tags == {"judged": "good"}
    client.delete_prompt_tag("main.prompts.tagged", "area/of use")
    client.delete_prompt_version_tag("main.prompts.tagged", 1, "judged")
    assert client.get_prompt("main.prompts.tagged").tags == {}
    assert client.get_prompt_version("main.prompts.tagged", 1).tags == {}


def test_two_writers_at_once_get_two_versions(tracked, schema):
    client = tracked.MlflowClient()
    with ThreadPoolExecutor(8) as writers:
        made = list(writers.map(lambda n: client.register_prompt("main.prompts.raced", f"text {n}"), range(8)))
    assert sorted(prompt.version for prompt in made) == list(range(1, 9))
    for prompt in made:
        assert client.get_prompt_version("main.prompts.raced", prompt.version).template == prompt.template


def test_a_version_never_changes(workspace, tracked, schema):
    tracked.genai.register_prompt(name="main.prompts.fixed", template="text")
    version = f"{BASE}/main.prompts.fixed/versions/1"
    changed = workspace.http.patch(version, json={"prompt_version": {"template": '"other"'}})
    assert changed.status_code == 400 and "never changes" in changed.json()["message"]
    described = workspace.http.patch(version, json={"prompt_version": {"description": "better"}})
    assert described.json()["description"] == "better" and described.json()["template"] == '"text"'
    prompt = workspace.http.patch(f"{BASE}/main.prompts.fixed", json={"prompt": {"description": "of all"}})
    assert prompt.json()["description"] == "of all"


@pytest.mark.parametrize("template", [None, "not json", '{"a": 1}', "[]", "[1]", "3", "[" * 100_000])
def test_a_template_is_an_encoded_string_or_messages(workspace, tracked, schema, template):
    workspace.http.post(BASE, json={"name": "main.prompts.strict"})
    answer = workspace.http.post(
        f"{BASE}/main.prompts.strict/versions", json={"prompt_version": {"template": template}}
    )
    assert answer.status_code == 400 and "template" in answer.json()["message"]
    found = workspace.http.post(f"{BASE}/main.prompts.strict/versions/search", json={})
    assert found.json() == {"prompt_versions": []}


@pytest.mark.parametrize(
    "text", ["name", "name =", "name = 'a' OR name = 'b'", "name = 'a' AND", "; DROP TABLE versions"]
)
def test_filters_are_checked(workspace, schema, text):
    wanted = {"catalog_schema": {"catalog_name": "main", "schema_name": "prompts"}, "filter": text}
    assert workspace.http.post(f"{BASE}/search", json=wanted).status_code == 400


def test_links_are_refused_by_name(workspace):
    path = "/api/2.0/mlflow/unity-catalog/prompt-versions/links-to-runs"
    answer = workspace.http.post(path, json={})
    assert answer.status_code == 501 and path in answer.json()["message"]
