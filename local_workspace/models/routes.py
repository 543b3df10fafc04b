"""The registered models of Unity Catalog as the SDK speaks of them, and MLflow's client when it speaks natively."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from local_workspace.context import LocalWorkspace
from local_workspace.models import mlflow_routes
from local_workspace.models.mlflow_dialect import Tag, page_before, page_size, paged, tag_list, tags_of
from local_workspace.models.mlflow_routes import of_logged_model
from local_workspace.models.store import ModelVersion
from local_workspace.parity import differs
from local_workspace.unity_catalog.routes import PREFIX, Body

MODELS = f"{PREFIX}/models"
VERSIONS = f"{MODELS}/{{full_name}}/versions"


class NewModel(Body):
    catalog_name: str
    schema_name: str
    name: str
    comment: str | None = None
    tags: list[Tag] = Field(default_factory=list)


class ModelChange(Body):
    full_name: str | None = None
    comment: str | None = None
    new_name: str | None = None
    owner: str | None = None


class NewVersion(Body):
    catalog_name: str
    schema_name: str
    model_name: str
    source: str | None = None
    run_id: str | None = None
    comment: str | None = None
    run_tracking_server_id: str | None = None
    tags: list[Tag] = Field(default_factory=list)
    model_version_dependencies: dict[str, Any] | None = None
    model_id: str | None = None
    feature_deps: str | None = Field(None, max_length=0)


class VersionChange(Body):
    full_name: str | None = None
    version: int | None = None
    comment: str | None = None


class NewAlias(Body):
    full_name: str | None = None
    alias: str | None = None
    version_num: int


class TagAssignments(Body):
    add_tags: list[Tag] = Field(default_factory=list)
    remove: list[str] = Field(default_factory=list)


class TagChange(Body):
    securable_type: str | None = None
    securable_full_name: str | None = None
    subentity_name: str | None = None
    changes: TagAssignments


def router(ws: LocalWorkspace) -> APIRouter:
    """Registered models, their versions and aliases."""
    api = APIRouter()
    models, versions = ws.models, ws.models.versions

    def aliases_of(full_name: str, securable: str, version: int | None = None) -> list[dict[str, Any]]:
        catalog, schema, name = full_name.split(".")
        of = {"catalog_name": catalog, "schema_name": schema, "model_name": name}
        return [
            {"alias_name": alias, "version_num": number, **of}
            for alias, number in versions.aliases(securable).items()
            if version in (None, number)
        ]

    def model(record: dict[str, Any], include_aliases: bool = False) -> dict[str, Any]:
        names = record["full_name"].split(".")
        shown = record | {
            "catalog_name": names[0],
            "schema_name": names[1],
            "storage_location": f"dbfs:/Models/{'/'.join(names)}",
            "tags": tag_list(versions.tags(record["id"])),
        }
        return shown | ({"aliases": aliases_of(record["full_name"], record["id"])} if include_aliases else {})

    def shown(version: ModelVersion, include_aliases: bool = False) -> dict[str, Any]:
        catalog, schema, name = version.name.split(".")
        record = version.record
        return {
            **record.facts,
            "catalog_name": catalog,
            "schema_name": schema,
            "model_name": name,
            "version": version.version,
            "storage_location": f"dbfs:/Models/{catalog}/{schema}/{name}/{version.version}",
            "tags": tag_list(record.tags),
        } | ({"aliases": aliases_of(version.name, record.securable, version.version)} if include_aliases else {})

    @api.post(MODELS)
    def create_model(body: NewModel, request: Request) -> dict[str, Any]:
        name = f"{body.catalog_name}.{body.schema_name}.{body.name}"
        return model(models.create(name, request.state.principal.name, tags_of(body.tags), body.comment))

    @api.get(MODELS)
    def list_models(
        catalog_name: str = "", schema_name: str = "", max_results: int | None = None, page_token: str = ""
    ) -> dict[str, Any]:
        size = page_size(max_results)
        if schema_name:
            ws.catalog.get("schema", f"{catalog_name}.{schema_name}")
        found = versions.page_of_securables(catalog_name, schema_name, page_token, size + 1)
        names = [record["full_name"] for record in found]
        return paged("registered_models", [model(record) for record in found], size, names)

    @api.get(f"{MODELS}/{{full_name}}")
    def get_model(full_name: str, include_aliases: bool = False) -> dict[str, Any]:
        return model(versions.securable(full_name), include_aliases)

    @api.patch(f"{MODELS}/{{full_name}}")
    def update_model(full_name: str, body: ModelChange, request: Request) -> dict[str, Any]:
        by = request.state.principal.name
        return model(models.update(full_name, by, body.new_name, comment=body.comment, owner=body.owner))

    @api.delete(f"{MODELS}/{{full_name}}")
    def delete_model(full_name: str) -> dict[str, Any]:
        models.delete(full_name)
        return {}

    @api.get(f"{MODELS}/{{full_name}}/aliases/{{alias}}")
    def version_by_alias(full_name: str, alias: str, include_aliases: bool = False) -> dict[str, Any]:
        return shown(models.located(versions.by_alias(full_name, alias)), include_aliases)

    @api.put(f"{MODELS}/{{full_name}}/aliases/{{alias}}")
    def set_alias(full_name: str, alias: str, body: NewAlias) -> dict[str, Any]:
        versions.set_alias(full_name, alias, body.version_num)
        record = versions.securable(full_name)
        return next(a for a in aliases_of(record["full_name"], record["id"]) if a["alias_name"] == alias)

    @api.delete(f"{MODELS}/{{full_name}}/aliases/{{alias}}")
    def delete_alias(full_name: str, alias: str) -> dict[str, Any]:
        versions.delete_alias(full_name, alias)
        return {}

    @api.post(f"{MODELS}/versions")
    @differs("a version keeps the parameters and metrics its logged model had when it was made")
    async def create_version(body: NewVersion, request: Request) -> dict[str, Any]:
        made = await run_in_threadpool(
            models.create_version,
            f"{body.catalog_name}.{body.schema_name}.{body.model_name}",
            request.state.principal.name,
            tags_of(body.tags),
            comment=body.comment,
            source=body.source,
            run_id=body.run_id,
            run_tracking_server_id=body.run_tracking_server_id,
            model_version_dependencies=body.model_version_dependencies,
            **await of_logged_model(ws.tracking, body.model_id),
        )
        return shown(made)

    @api.get(VERSIONS)
    def list_versions(full_name: str, max_results: int | None = None, page_token: str = "") -> dict[str, Any]:
        size = page_size(max_results)
        found = versions.page(full_name, size + 1, page_before(page_token))
        numbers = [str(version.version) for version in found]
        return paged("model_versions", [shown(models.located(version)) for version in found], size, numbers)

    @api.get(f"{VERSIONS}/{{version}}")
    def get_version(full_name: str, version: str, include_aliases: bool = False) -> dict[str, Any]:
        return shown(models.located(versions.get(full_name, version)), include_aliases)

    @api.patch(f"{VERSIONS}/{{version}}")
    def update_version(full_name: str, version: str, body: VersionChange, request: Request) -> dict[str, Any]:
        by = request.state.principal.name
        return shown(models.located(versions.update(full_name, version, by, comment=body.comment)))

    @api.delete(f"{VERSIONS}/{{version}}")
    def delete_version(full_name: str, version: str) -> dict[str, Any]:
        models.delete_version(full_name, version)
        return {}

    @api.patch(f"{VERSIONS}/{{version}}/finalize")
    def finalize(full_name: str, version: str, request: Request) -> dict[str, Any]:
        return shown(models.finalize(full_name, version, request.state.principal.name))

    def change_tags(full_name: str, version: str | None, changes: TagAssignments) -> dict[str, Any]:
        for tag in changes.add_tags:
            versions.set_tag(full_name, version, tag.key, tag.value)
        for key in changes.remove:
            versions.delete_tag(full_name, version, key)
        return {}

    # Unity Catalog counts registered models among the functions.
    @api.patch(f"{PREFIX}/securable-tags/FUNCTION/{{full_name}}")
    def change_model_tags(full_name: str, body: TagChange) -> dict[str, Any]:
        return change_tags(full_name, None, body.changes)

    @api.patch(f"{PREFIX}/subentity-tags/FUNCTION/{{full_name}}/{{version}}")
    def change_version_tags(full_name: str, version: str, body: TagChange) -> dict[str, Any]:
        return change_tags(full_name, version, body.changes)

    api.include_router(mlflow_routes.router(ws))
    return api
