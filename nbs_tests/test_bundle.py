"""databricks.yml asks for what settings.ini names, in the words of the REST API."""

from typing import Any

import pytest
import yaml
from databricks.sdk.service import apps, catalog, serving

from lib.settings import Settings, load_settings
from nbs_tests.house import ROOT

BUNDLE = yaml.safe_load((ROOT / "databricks.yml").read_text())
RESOURCES = BUNDLE["resources"]


@pytest.fixture(params=BUNDLE["targets"])
def settings(request: pytest.FixtureRequest) -> Settings:
    """The names of one target of the bundle."""
    return load_settings({"SOTA_TARGET": request.param})


def resolved(value: Any, settings: Settings) -> Any:
    """A resource with the target's variables put in."""
    text = yaml.safe_dump(value)
    variables = BUNDLE["targets"][settings.target]["variables"]
    text = text.replace("${var.catalog}", variables["catalog"])
    return yaml.safe_load(text.replace("${resources.schemas.agents.name}", RESOURCES["schemas"]["agents"]["name"]))


def test_schema_and_volumes_are_those_of_the_settings(settings: Settings):
    schema = catalog.SchemaInfo.from_dict(resolved(RESOURCES["schemas"]["agents"], settings))
    assert (schema.catalog_name, schema.name) == (settings.catalog, settings.schema)
    volumes = [catalog.VolumeInfo.from_dict(resolved(v, settings)) for v in RESOURCES["volumes"].values()]
    paths = {f"/Volumes/{volume.catalog_name}/{volume.schema_name}/{volume.name}" for volume in volumes}
    assert paths == {settings.volume(name) for name in ("configs", "prompts", "staging")}


def test_endpoints_are_those_of_the_settings(settings: Settings):
    defaults = {name: variable.get("default") for name, variable in BUNDLE["variables"].items()}
    named = {
        endpoint["name"]: endpoint["config"]["served_entities"]
        for endpoint in RESOURCES["model_serving_endpoints"].values()
    }
    assert set(named) == {settings.chat_endpoint, settings.embedding_endpoint}
    assert (defaults["chat_entity"], defaults["embedding_entity"]) == (settings.chat_entity, settings.embedding_entity)


def test_the_app_and_its_resources_are_those_of_the_settings(settings: Settings):
    wanted = resolved(RESOURCES["apps"]["agents"], settings)
    app = apps.App.from_dict(wanted)
    assert app.name == settings.app_name
    volumes = {found.uc_securable.securable_full_name for found in app.resources if found.uc_securable}
    assert volumes == {settings.full_name(settings.configs_volume), settings.full_name(settings.prompts_volume)}
    asked = {
        entry["valueFrom"]
        for entry in yaml.safe_load((ROOT / "app/app.yaml").read_text())["env"]
        if "valueFrom" in entry
    }
    assert asked <= {found.name for found in app.resources}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("schemas", catalog.SchemaInfo),
        ("volumes", catalog.VolumeInfo),
        ("apps", apps.App),
    ],
)
def test_every_field_is_one_of_the_rest_api(kind: str, words: Any):
    """What the SDK's own class does not know would be lost on the round trip."""
    for resource in RESOURCES[kind].values():
        sent = {name: value for name, value in resource.items() if name != "source_code_path"}  # the bundle's own
        assert words.from_dict(sent).as_dict() == sent


def test_every_field_of_an_endpoint_is_one_of_the_rest_api():
    for endpoint in RESOURCES["model_serving_endpoints"].values():
        config = endpoint["config"] | {"name": endpoint["name"]}
        assert serving.EndpointCoreConfigInput.from_dict(config).as_dict() == config
