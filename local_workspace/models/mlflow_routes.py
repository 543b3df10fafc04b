"""The registered models of Unity Catalog as MLflow's client speaks of them (`databricks-uc`).

Model files go by the Files API at `/Models`; there are no temporary credentials of a cloud: 501.
"""

import re
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest, NotFound, NotImplementedHere
from local_workspace.mlflow.tracking import Tracking
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
from local_workspace.models.store import ModelVersion
from local_workspace.parity import differs
from local_workspace.unity_catalog.routes import Body

MODELS, VERSIONS = f"{API}/registered-models", f"{API}/model-versions"
NAME_FILTER = re.compile(r"""\s*name\s*=\s*(['"])(?P<name>.+)\1\s*""")


class Named(Body):
    name: str


class NewModel(Named):
    description: str | None = None
    tags: list[Tag] = Field(default_factory=list)


class ModelChange(Named):
    description: str | None = None
    new_name: str | None = None


class NewVersion(Named):
    source: str | None = None
    run_id: str | None = None
    description: str | None = None
    run_tracking_server_id: str | None = None
    tags: list[Tag] = Field(default_factory=list)
    model_version_dependencies: list[dict[str, Any]] = Field(default_factory=list)
    model_id: str | None = None
    feature_deps: str | None = Field(None, max_length=0)


class Numbered(Named):
    version: int | str


class VersionChange(Numbered):
    description: str | None = None


class Lineage(Numbered):
    securable: dict[str, Any] | None = None
    model_version_lineage_info: dict[str, Any] = Field(default_factory=dict)


class Aliased(Named):
    alias: str


class NewAlias(Aliased):
    version: int | str


class ModelTag(Named):
    key: str
    value: str = ""


class VersionTag(ModelTag):
    version: int | str


def described(version: ModelVersion) -> dict[str, Any]:
    """A model version as MLflow reads it."""
    facts = version.record.facts
    shown = {
        "name": version.name,
        "version": str(version.version),
        "creation_timestamp": facts["created_at"],
        "last_updated_timestamp": facts["updated_at"],
        "user_id": facts["created_by"],
        "description": facts.get("comment", ""),
        "status": version.status,
        "storage_location": f"dbfs:/Models/{version.name.replace('.', '/')}/{version.version}",
        "aliases": [{"alias": alias, "version": str(version.version)} for alias in version.record.aliases],
        "tags": tag_list(version.record.tags),
    }
    kept = ("source", "run_id", "run_tracking_server_id", "model_id", "model_params", "model_metrics")
    return shown | {name: facts[name] for name in kept if name in facts}


async def of_logged_model(tracking: Tracking, model_id: str | None) -> dict[str, Any]:
    """The parameters and metrics of the logged model that a version is made from. Raises NotFound."""
    if not model_id:
        return {}
    found = await tracking.call("GET", f"/api/2.0/mlflow/logged-models/{model_id}")
    data = found["model"].get("data", {})
    params = [{"name": param["key"], "value": param["value"]} for param in data.get("params", [])]
    return {"model_id": model_id, "model_params": params, "model_metrics": data.get("metrics", [])}


def router(ws: LocalWorkspace) -> APIRouter:
    """Registered models, versions, aliases and tags."""
    api = APIRouter(route_class=MlflowRoute)
    models, versions = ws.models, ws.models.versions

    def model(record: dict[str, Any]) -> dict[str, Any]:
        aliases = versions.aliases(record["id"]).items()
        return {
            "name": record["full_name"],
            "creation_timestamp": record["created_at"],
            "last_updated_timestamp": record["updated_at"],
            "user_id": record["created_by"],
            "description": record.get("comment", ""),
            "aliases": [{"alias": alias, "version": str(version)} for alias, version in aliases],
            "tags": tag_list(versions.tags(record["id"])),
        }

    @api.get(f"{MODELS}:is-databricks-sdk-models-artifact-repository-enabled")
    def files_by_the_files_api() -> dict[str, bool]:
        return {"is_databricks_sdk_models_artifact_repository_enabled": True}

    @api.post(f"{MODELS}/create")
    def create_model(body: NewModel, request: Request) -> dict[str, Any]:
        made = models.create(body.name, request.state.principal.name, tags_of(body.tags), body.description)
        return {"registered_model": model(made)}

    @api.get(f"{MODELS}/get")
    def get_model(name: str) -> dict[str, Any]:
        return {"registered_model": model(versions.securable(name))}

    @api.patch(f"{MODELS}/update")
    def update_model(body: ModelChange, request: Request) -> dict[str, Any]:
        by = request.state.principal.name
        return {"registered_model": model(models.update(body.name, by, body.new_name, comment=body.description))}

    @api.delete(f"{MODELS}/delete")
    def delete_model(body: Named) -> dict[str, Any]:
        models.delete(body.name)
        return {}

    @api.get(f"{MODELS}/search")
    def search_models(max_results: int | None = None, page_token: str = "") -> dict[str, Any]:
        size = page_size(max_results)
        found = versions.page_of_securables("", "", page_token, size + 1)
        names = [record["full_name"] for record in found]
        return paged("registered_models", [model(record) for record in found], size, names)

    @api.post(f"{VERSIONS}/create")
    @differs("a version keeps the parameters and metrics its logged model had when it was made")
    async def create_version(body: NewVersion, request: Request) -> dict[str, Any]:
        made = await run_in_threadpool(
            models.create_version,
            body.name,
            request.state.principal.name,
            tags_of(body.tags),
            comment=body.description,
            source=body.source,
            run_id=body.run_id,
            run_tracking_server_id=body.run_tracking_server_id,
            dependencies=body.model_version_dependencies,
            **await of_logged_model(ws.tracking, body.model_id),
        )
        return {"model_version": described(made)}

    @api.post(f"{VERSIONS}/finalize")
    def finalize(body: Numbered, request: Request) -> dict[str, Any]:
        return {"model_version": described(models.finalize(body.name, body.version, request.state.principal.name))}

    @api.post(f"{VERSIONS}/emit-lineage")
    @differs("there is no lineage: one that names notebooks or jobs is refused")
    def emit_lineage(body: Lineage) -> dict[str, Any]:
        versions.get(body.name, body.version)
        if body.model_version_lineage_info.get("entities"):
            raise NotImplementedHere("local_workspace does not keep the lineage of model versions")
        return {}

    @api.get(f"{VERSIONS}/get")
    def get_version(name: str, version: str) -> dict[str, Any]:
        return {"model_version": described(models.located(versions.get(name, version)))}

    @api.get(f"{VERSIONS}/get-download-uri")
    def download_uri(name: str, version: str) -> dict[str, Any]:
        return {"artifact_uri": described(models.located(versions.get(name, version)))["storage_location"]}

    @api.patch(f"{VERSIONS}/update")
    def update_version(body: VersionChange, request: Request) -> dict[str, Any]:
        changed = versions.update(body.name, body.version, request.state.principal.name, comment=body.description)
        return {"model_version": described(models.located(changed))}

    @api.delete(f"{VERSIONS}/delete")
    def delete_version(body: Numbered) -> dict[str, Any]:
        models.delete_version(body.name, body.version)
        return {}

    @api.get(f"{VERSIONS}/search")
    def search_versions(filter: str = "", max_results: int | None = None, page_token: str = "") -> dict[str, Any]:
        match = NAME_FILTER.fullmatch(filter)
        if not match:
            raise BadRequest(f"filter must be name = 'catalog.schema.model'; got {filter[:200]!r}")
        size, before = page_size(max_results), page_before(page_token)
        try:
            found = versions.page(match["name"], size + 1, before)
        except NotFound:
            found = []
        numbers = [str(version.version) for version in found]
        return paged("model_versions", [described(models.located(version)) for version in found], size, numbers)

    @api.get(f"{MODELS}/alias")
    def version_by_alias(name: str, alias: str) -> dict[str, Any]:
        return {"model_version": described(models.located(versions.by_alias(name, alias)))}

    @api.post(f"{MODELS}/alias")
    def set_alias(body: NewAlias) -> dict[str, Any]:
        versions.set_alias(body.name, body.alias, body.version)
        return {}

    @api.delete(f"{MODELS}/alias")
    def delete_alias(body: Aliased) -> dict[str, Any]:
        versions.delete_alias(body.name, body.alias)
        return {}

    @api.post(f"{MODELS}/set-tag")
    def set_tag(body: ModelTag) -> dict[str, Any]:
        versions.set_tag(body.name, None, body.key, body.value)
        return {}

    @api.delete(f"{MODELS}/delete-tag")
    def delete_tag(body: ModelTag) -> dict[str, Any]:
        versions.delete_tag(body.name, None, body.key)
        return {}

    @api.post(f"{VERSIONS}/set-tag")
    def set_version_tag(body: VersionTag) -> dict[str, Any]:
        versions.set_tag(body.name, body.version, body.key, body.value)
        return {}

    @api.delete(f"{VERSIONS}/delete-tag")
    def delete_version_tag(body: VersionTag) -> dict[str, Any]:
        versions.delete_tag(body.name, body.version, body.key)
        return {}

    return api
