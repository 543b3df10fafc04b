"""The prompt registry of Unity Catalog, as MLflow's client speaks of it.

Links of prompts with models, runs and traces are kept by MLflow's client in their tags too; as operations of their own
they are answered 501.
"""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field

from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest
from local_workspace.models.mlflow_dialect import (
    API,
    MlflowRoute,
    Tag,
    page_before,
    page_size,
    paged,
    tag_list,
    tags_of,
)
from local_workspace.models.versions import Version
from local_workspace.moments import iso
from local_workspace.unity_catalog.routes import Body

PROMPTS = f"{API}/prompts"
VERSIONS = f"{PROMPTS}/{{name}}/versions"


class PromptFields(Body):
    name: str | None = None
    description: str | None = None
    tags: list[Tag] = Field(default_factory=list)


class NewPrompt(Body):
    name: str
    prompt: PromptFields = Field(default_factory=PromptFields)


class PromptChange(Body):
    name: str | None = None
    prompt: PromptFields


class VersionFields(PromptFields):
    version: str | None = None
    template: str | None = None


class NewVersion(Body):
    name: str | None = None
    prompt_version: VersionFields


class VersionChange(NewVersion):
    version: str | None = None


class SchemaName(Body):
    catalog_name: str
    schema_name: str


class Search(Body):
    name: str | None = None
    catalog_schema: SchemaName | None = None
    filter: str = ""
    max_results: int | None = None
    page_token: str = ""


class AliasTarget(Body):
    name: str | None = None
    alias: str | None = None
    version: int | str


class NewTag(Body):
    name: str | None = None
    version: str | None = None
    key: str
    value: str = ""


def _times(facts: dict[str, Any]) -> dict[str, str]:
    return {
        "creation_timestamp": iso(facts["created_at"] / 1000),
        "last_updated_timestamp": iso(facts["updated_at"] / 1000),
    }


def _described(version: Version) -> dict[str, Any]:
    facts = version.facts
    return {
        "name": version.full_name,
        "version": str(version.version),
        "description": facts.get("comment", ""),
        "template": facts["template"],
        "aliases": [{"alias": alias, "version": str(version.version)} for alias in version.aliases],
        "tags": tag_list(version.tags),
        **_times(facts),
    }


def router(ws: LocalWorkspace) -> APIRouter:
    """Prompts, their versions, aliases and tags."""
    api = APIRouter(route_class=MlflowRoute)
    prompts, versions = ws.prompts, ws.prompts.versions

    def prompt(record: dict[str, Any]) -> dict[str, Any]:
        aliases = versions.aliases(record["id"]).items()
        return {
            "name": record["full_name"],
            "description": record.get("comment", ""),
            "aliases": [{"alias": alias, "version": str(version)} for alias, version in aliases],
            "tags": tag_list(versions.tags(record["id"])),
            **_times(record),
        }

    @api.post(PROMPTS)
    def create_prompt(body: NewPrompt, request: Request) -> dict[str, Any]:
        given = body.prompt
        return prompt(prompts.create(body.name, request.state.principal.name, tags_of(given.tags), given.description))

    @api.post(f"{PROMPTS}/search")
    def search_prompts(body: Search) -> dict[str, Any]:
        if body.catalog_schema is None:
            raise BadRequest("catalog_schema must name the catalog and the schema to search")
        size, within = page_size(body.max_results), body.catalog_schema
        found = prompts.search(within.catalog_name, within.schema_name, body.filter, body.page_token, size + 1)
        names = [record["full_name"] for record in found]
        return paged("prompts", [prompt(record) for record in found], size, names)

    @api.get(f"{PROMPTS}/{{name}}")
    def get_prompt(name: str) -> dict[str, Any]:
        return prompt(versions.securable(name))

    @api.patch(f"{PROMPTS}/{{name}}")
    def update_prompt(name: str, body: PromptChange, request: Request) -> dict[str, Any]:
        return prompt(prompts.update(name, request.state.principal.name, body.prompt.description))

    @api.delete(f"{PROMPTS}/{{name}}")
    def delete_prompt(name: str) -> dict[str, Any]:
        prompts.delete(name)
        return {}

    @api.post(VERSIONS)
    def create_version(name: str, body: NewVersion, request: Request) -> dict[str, Any]:
        given = body.prompt_version
        if given.template is None:
            raise BadRequest("prompt_version.template is missing")
        by = request.state.principal.name
        return _described(prompts.add_version(name, by, given.template, tags_of(given.tags), given.description))

    @api.post(f"{VERSIONS}/search")
    def search_versions(name: str, body: Search) -> dict[str, Any]:
        size = page_size(body.max_results)
        found = versions.page(name, size + 1, page_before(body.page_token))
        numbers = [str(version.version) for version in found]
        return paged("prompt_versions", [_described(version) for version in found], size, numbers)

    @api.get(f"{VERSIONS}/{{version}}")
    def get_version(name: str, version: str) -> dict[str, Any]:
        return _described(versions.get(name, version))

    @api.patch(f"{VERSIONS}/{{version}}")
    def update_version(name: str, version: str, body: VersionChange, request: Request) -> dict[str, Any]:
        given = body.prompt_version
        if given.template is not None and given.template != versions.get(name, version).facts["template"]:
            raise BadRequest("the template of a prompt version never changes: make a new version")
        return _described(versions.update(name, version, request.state.principal.name, comment=given.description))

    @api.delete(f"{VERSIONS}/{{version}}")
    def delete_version(name: str, version: str) -> dict[str, Any]:
        versions.delete(name, version)
        return {}

    @api.get(f"{VERSIONS}/by-alias/{{alias}}")
    def version_by_alias(name: str, alias: str) -> dict[str, Any]:
        return _described(versions.by_alias(name, alias))

    @api.post(f"{PROMPTS}/{{name}}/aliases/{{alias}}")
    def set_alias(name: str, alias: str, body: AliasTarget) -> dict[str, Any]:
        versions.set_alias(name, alias, body.version)
        return {}

    @api.delete(f"{PROMPTS}/{{name}}/aliases/{{alias}}")
    def delete_alias(name: str, alias: str) -> dict[str, Any]:
        versions.delete_alias(name, alias)
        return {}

    @api.post(f"{PROMPTS}/{{name}}/tags")
    def set_tag(name: str, body: NewTag) -> dict[str, Any]:
        versions.set_tag(name, None, body.key, body.value)
        return {}

    @api.delete(f"{PROMPTS}/{{name}}/tags/{{key:path}}")
    def delete_tag(name: str, key: str) -> dict[str, Any]:
        versions.delete_tag(name, None, key)
        return {}

    @api.post(f"{VERSIONS}/{{version}}/tags")
    def set_version_tag(name: str, version: str, body: NewTag) -> dict[str, Any]:
        versions.set_tag(name, version, body.key, body.value)
        return {}

    @api.delete(f"{VERSIONS}/{{version}}/tags/{{key:path}}")
    def delete_version_tag(name: str, version: str, key: str) -> dict[str, Any]:
        versions.delete_tag(name, version, key)
        return {}

    return api
