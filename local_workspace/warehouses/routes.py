"""The SQL warehouses API, and data sources, which are warehouses in the words of older clients."""

from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest, NotImplementedHere
from local_workspace.paging import page
from local_workspace.parity import differs

PREFIX = "/api/2.0/sql/warehouses"
CONFIG = "/api/2.0/sql/config/warehouses"
SIZES = ("2X-Small", "X-Small", "Small", "Medium", "Large", "X-Large", "2X-Large", "3X-Large", "4X-Large", "5X-Large")
MAX_CLUSTERS = 40
TYPES = ("CLASSIC", "PRO")
DEFAULTS = {
    "auto_stop_mins": 120,
    "min_num_clusters": 1,
    "max_num_clusters": 1,
    "warehouse_type": "CLASSIC",
    "enable_photon": True,
    "enable_serverless_compute": False,
    "spot_instance_policy": "COST_OPTIMIZED",
    "channel": {"name": "CHANNEL_NAME_CURRENT"},
    "tags": {"custom_tags": []},
}


class Pair(BaseModel):
    key: str
    value: str


class Tags(BaseModel):
    custom_tags: list[Pair] = []


class Channel(BaseModel):
    name: Literal["CHANNEL_NAME_CURRENT", "CHANNEL_NAME_PREVIEW", "CHANNEL_NAME_PREVIOUS", "CHANNEL_NAME_CUSTOM"]
    dbsql_version: str | None = None


class Settings(BaseModel):
    """The body of create and edit. One machine has no sizes: they are checked, kept and shown."""

    model_config = ConfigDict(extra="allow")

    name: str | None = Field(None, min_length=1, max_length=100)
    cluster_size: str | None = None
    auto_stop_mins: int | None = Field(None, ge=0)
    min_num_clusters: int | None = Field(None, ge=1, le=MAX_CLUSTERS)
    max_num_clusters: int | None = Field(None, ge=1, le=MAX_CLUSTERS)
    warehouse_type: Literal["CLASSIC", "PRO", "TYPE_UNSPECIFIED"] | None = None
    enable_photon: bool | None = None
    enable_serverless_compute: bool | None = None
    spot_instance_policy: Literal["COST_OPTIMIZED", "RELIABILITY_OPTIMIZED", "POLICY_UNSPECIFIED"] | None = None
    channel: Channel | None = None
    tags: Tags | None = None
    instance_profile_arn: str | None = None
    creator_name: str | None = None

    @model_validator(mode="after")
    def _possible(self) -> "Settings":
        if refused := sorted(name for name, value in (self.model_extra or {}).items() if value is not None):
            raise NotImplementedHere(f"local_workspace does not have the option {', '.join(refused)} of warehouses")
        if self.cluster_size not in (None, *SIZES):
            raise BadRequest(f"cluster_size must be one of {', '.join(SIZES)}, not {self.cluster_size!r}.")
        if self.auto_stop_mins is not None and 0 < self.auto_stop_mins < 10 and not self.enable_serverless_compute:
            raise BadRequest("auto_stop_mins must be 0 (never) or at least 10.")
        if self.min_num_clusters and self.max_num_clusters and self.min_num_clusters > self.max_num_clusters:
            raise BadRequest("min_num_clusters must not be greater than max_num_clusters.")
        return self

    def given(self) -> dict[str, Any]:
        """What was asked for, but for the name."""
        return self.model_dump(exclude_none=True, exclude={"name", "creator_name"})


def router(ws: LocalWorkspace) -> APIRouter:
    """The warehouses API."""
    api = APIRouter()
    store = ws.warehouses

    def shown(record: dict[str, Any]) -> dict[str, Any]:
        host, port = ws.host.removeprefix("http://").split(":")
        path = f"/sql/1.0/warehouses/{record['id']}"
        running = record["state"] == "RUNNING"
        return {
            **DEFAULTS,
            **record["settings"],
            "id": record["id"],
            "name": record["name"],
            "state": record["state"],
            "num_clusters": int(running),
            "num_active_sessions": ws.statements.running(record["id"]),
            "creator_name": record["creator"],
            "odbc_params": {"hostname": host, "port": int(port), "protocol": "http", "path": path},
            "jdbc_url": f"jdbc:spark://{host}:{port}/default;transportMode=http;httpPath={path}",
            "health": {"status": "HEALTHY"} if running else {},
        }

    @api.get(PREFIX)
    async def list_warehouses(page_size: int = 1000, page_token: str = "") -> dict:
        records, following = page(store.all(), max(page_size, 1), page_token)
        return {"warehouses": [shown(record) for record in records], **following}

    @api.post(PREFIX)
    @differs("it is RUNNING at once, and every warehouse is the same engine of this machine, whatever its size")
    def create(body: Settings, request: Request) -> dict:
        if body.name is None or body.cluster_size is None:
            raise BadRequest("name and cluster_size are needed to create a SQL warehouse.")
        return {"id": store.create(body.name, body.given(), request.state.principal.name)}

    @api.get(f"{PREFIX}/{{warehouse_id}}")
    async def get(warehouse_id: str) -> dict:
        return shown(store.get(warehouse_id))

    @api.post(f"{PREFIX}/{{warehouse_id}}/edit")
    @differs("sizes, clusters and auto_stop_mins are kept and shown; nothing on one machine follows them")
    def edit(warehouse_id: str, body: Settings) -> dict:
        store.edit(warehouse_id, body.name, body.given())
        return {}

    @api.post(f"{PREFIX}/{{warehouse_id}}/start")
    @differs("it is RUNNING at once")
    def start(warehouse_id: str) -> dict:
        store.set_state(warehouse_id, "RUNNING")
        return {}

    @api.post(f"{PREFIX}/{{warehouse_id}}/stop")
    @differs("its running statements are cancelled; the engine, which all warehouses share, goes on")
    async def stop(warehouse_id: str) -> dict:
        store.set_state(warehouse_id, "STOPPED")
        await ws.statements.cancel_all(warehouse_id)
        return {}

    @api.delete(f"{PREFIX}/{{warehouse_id}}")
    async def delete(warehouse_id: str) -> dict:
        store.delete(warehouse_id)
        await ws.statements.cancel_all(warehouse_id)
        return {}

    @api.get(CONFIG)
    async def get_config() -> dict:
        types = [{"warehouse_type": name, "enabled": True} for name in TYPES]
        return {"enabled_warehouse_types": types} | store.config()

    @api.put(CONFIG)
    @differs("kept and shown; the engine takes no settings from it")
    def set_config(body: dict[str, Any]) -> dict:
        store.set_config(body)
        return {}

    @api.get("/api/2.0/preview/sql/data_sources")
    async def data_sources() -> list[dict[str, Any]]:
        return [
            {
                "id": str(uuid5(NAMESPACE_URL, record["id"])),
                "name": record["name"],
                "warehouse_id": record["id"],
                "type": "databricks_internal",
                "syntax": "sql",
                "paused": int(record["state"] != "RUNNING"),
                "supports_auto_limit": True,
                "view_only": False,
            }
            for record in store.all()
        ]

    return api
