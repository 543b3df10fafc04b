"""Clusters, instance pools and policies. One machine is every cluster: sizes and node types are kept and shown."""

from typing import Any

from fastapi import APIRouter, Query, Request

from local_workspace.compute import command_routes
from local_workspace.compute.clusters import InvalidState, described, size, workers
from local_workspace.compute.machine import node_type, spark_versions
from local_workspace.compute.specs import checked
from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest
from local_workspace.paging import page
from local_workspace.parity import differs

PREFIX = "/api/2.1/clusters"
POOLS = "/api/2.0/instance-pools"
SAME_MACHINE = "every cluster is a record on this one machine and runs at once; sizes and cloud options are only kept"
MAX_PAGE, MAX_EVENTS = 100, 500


def router(ws: LocalWorkspace) -> APIRouter:
    """The Clusters, Instance Pools, Cluster Policies and Command Execution APIs."""
    api = APIRouter()
    compute, clusters = ws.compute, ws.compute.clusters

    @api.post(f"{PREFIX}/create")
    @differs(SAME_MACHINE)
    def create(body: dict[str, Any], request: Request) -> dict[str, Any]:
        spec = checked(body, apart=("clone_from", "idempotency_token"))
        if source := _object(body, "clone_from"):
            spec = clusters.get(source.get("source_cluster_id"))["spec"] | spec
        return {"cluster_id": compute.create(spec, request.state.principal.name)}

    @api.post(f"{PREFIX}/edit")
    @differs(SAME_MACHINE)
    async def edit(body: dict[str, Any], request: Request) -> dict[str, Any]:
        spec = checked(body, apart=("cluster_id",))
        await compute.edit(_id(body), spec, request.state.principal.name)
        return {}

    @api.post(f"{PREFIX}/update")
    @differs(SAME_MACHINE)
    async def update(body: dict[str, Any], request: Request) -> dict[str, Any]:
        cluster_id, mask = _id(body), str(body.get("update_mask") or "").split(",")
        change = checked(_object(body, "cluster"))
        names = sorted({name.strip().partition(".")[0] for name in mask if name.strip()})
        if not names:
            raise BadRequest("update_mask must name the fields to change")
        spec = clusters.get(cluster_id)["spec"] | {name: change.get(name) for name in names}
        if "autoscale" in names:
            spec["num_workers"] = None
        elif "num_workers" in names:
            spec["autoscale"] = None
        await compute.edit(cluster_id, checked(spec), request.state.principal.name)
        return {}

    @api.get(f"{PREFIX}/get")
    def get(cluster_id: str) -> dict[str, Any]:
        return described(clusters.get(cluster_id))

    @api.get(f"{PREFIX}/list")
    def list_(request: Request, page_size: int = Query(20, ge=0), page_token: str = "") -> dict[str, Any]:
        found = [described(cluster) for cluster in _filtered(clusters.all(), request)]
        shown, following = page(found, min(page_size or 20, MAX_PAGE), page_token)
        return {"clusters": shown} | following

    @api.post(f"{PREFIX}/events")
    def events(body: dict[str, Any]) -> dict[str, Any]:
        found = clusters.events(_id(body))
        kinds = body.get("event_types") or []
        if not isinstance(kinds, list):
            raise BadRequest("event_types must be a list")
        start, end = _integer(body, "start_time"), _integer(body, "end_time")
        found = [e for e in found if (not kinds or e["type"] in kinds) and start <= e["timestamp"]]
        found = [e for e in found if not end or e["timestamp"] <= end]
        if body.get("order", "DESC") == "DESC":
            found.reverse()
        limit = min(_integer(body, "page_size") or _integer(body, "limit") or 50, MAX_EVENTS)
        shown, following = page(found, limit, str(body.get("page_token") or ""), _integer(body, "offset"))
        answer: dict[str, Any] = {"events": shown, "total_count": len(found)} | following
        if following:
            kept = {name: value for name, value in body.items() if name != "offset"}
            answer["next_page"] = kept | {"page_token": following["next_page_token"]}
        return answer

    @api.post(f"{PREFIX}/start")
    @differs(SAME_MACHINE)
    def start(body: dict[str, Any], request: Request) -> dict[str, Any]:
        compute.begin(_id(body), request.state.principal.name)
        return {}

    @api.post(f"{PREFIX}/restart")
    @differs(SAME_MACHINE)
    async def restart(body: dict[str, Any], request: Request) -> dict[str, Any]:
        await compute.restart(_id(body), request.state.principal.name)
        return {}

    @api.post(f"{PREFIX}/resize")
    @differs(SAME_MACHINE)
    def resize(body: dict[str, Any], request: Request) -> dict[str, Any]:
        cluster = clusters.get(_id(body))
        if cluster["state"] != "RUNNING":
            raise InvalidState(f"Cluster {cluster['cluster_id']} is not running.")
        wanted = checked(body, apart=("cluster_id",))
        if len(wanted) != 1 or not wanted.keys() <= {"num_workers", "autoscale"}:
            raise BadRequest("exactly one of num_workers and autoscale is needed")
        kept = {name: value for name, value in cluster["spec"].items() if name not in ("num_workers", "autoscale")}
        spec = compute.valid(kept | wanted)
        cluster_id, user = cluster["cluster_id"], request.state.principal.name
        clusters.event(cluster_id, "RESIZING", user=user, cluster_size=size(spec))
        clusters.change(cluster_id, spec=spec)
        clusters.event(cluster_id, "UPSIZE_COMPLETED", current_num_workers=workers(spec))
        return {}

    @api.post(f"{PREFIX}/delete")
    @differs(SAME_MACHINE)
    async def terminate(body: dict[str, Any], request: Request) -> dict[str, Any]:
        await compute.terminate(_id(body), request.state.principal.name)
        return {}

    @api.post(f"{PREFIX}/permanent-delete")
    async def permanent_delete(body: dict[str, Any], request: Request) -> dict[str, Any]:
        await compute.terminate(_id(body), request.state.principal.name)
        clusters.forget(_id(body))
        return {}

    @api.post(f"{PREFIX}/pin")
    def pin(body: dict[str, Any], request: Request) -> dict[str, Any]:
        clusters.pin(_id(body), True, request.state.principal.name)
        return {}

    @api.post(f"{PREFIX}/unpin")
    def unpin(body: dict[str, Any], request: Request) -> dict[str, Any]:
        clusters.pin(_id(body), False, request.state.principal.name)
        return {}

    @api.post(f"{PREFIX}/change-owner")
    def change_owner(body: dict[str, Any]) -> dict[str, Any]:
        cluster = clusters.get(_id(body))
        if cluster["state"] != "TERMINATED":
            raise InvalidState(f"Cluster {cluster['cluster_id']} must be terminated to get another owner.")
        if not isinstance(body.get("owner_username"), str):
            raise BadRequest("owner_username must be the name of a user")
        clusters.change(cluster["cluster_id"], creator=body["owner_username"])
        return {}

    @api.get(f"{PREFIX}/spark-versions")
    @differs("the versions are labels: every cluster runs this machine's Python, with Spark Connect to Sail")
    def versions() -> dict[str, Any]:
        return {"versions": spark_versions()}

    @api.get(f"{PREFIX}/list-node-types")
    @differs("the only node type is this machine; clusters accept any other name and run here all the same")
    def node_types() -> dict[str, Any]:
        return {"node_types": [node_type(ws.config.root)]}

    @api.get("/api/2.0/policies/clusters/list")
    @differs("there are no cluster policies: the list is always empty")
    def policies() -> dict[str, Any]:
        return {"policies": []}

    _add_pools(api, ws)
    api.include_router(command_routes.router(ws))
    return api


def _add_pools(api: APIRouter, ws: LocalWorkspace) -> None:
    pools = ws.compute.pools
    record = "a record: there are no instances to keep idle"

    @api.post(f"{POOLS}/create")
    @differs(record)
    def create_pool(body: dict[str, Any]) -> dict[str, Any]:
        return {"instance_pool_id": pools.create(body)}

    @api.get(f"{POOLS}/get")
    def get_pool(instance_pool_id: str) -> dict[str, Any]:
        return pools.get(instance_pool_id)

    @api.get(f"{POOLS}/list")
    def list_pools() -> dict[str, Any]:
        return {"instance_pools": pools.all()}

    @api.post(f"{POOLS}/edit")
    @differs(record)
    def edit_pool(body: dict[str, Any]) -> dict[str, Any]:
        pools.edit(body.get("instance_pool_id"), body)
        return {}

    @api.post(f"{POOLS}/delete")
    def delete_pool(body: dict[str, Any]) -> dict[str, Any]:
        pools.delete(body.get("instance_pool_id"))
        return {}


def _id(body: dict[str, Any]) -> str:
    if not isinstance(body.get("cluster_id"), str):
        raise BadRequest("cluster_id must be the id of a cluster")
    return body["cluster_id"]


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name) or {}
    if not isinstance(value, dict):
        raise BadRequest(f"{name} must be an object")
    return value


def _integer(body: dict[str, Any], name: str) -> int:
    value = body.get(name) or 0
    if not isinstance(value, int) or value < 0:
        raise BadRequest(f"{name} must be a whole number from 0 on")
    return value


def _filtered(clusters: list[dict[str, Any]], request: Request) -> list[dict[str, Any]]:
    query = request.query_params
    if states := query.getlist("filter_by.cluster_states"):
        clusters = [c for c in clusters if c["state"] in states]
    if (sources := query.getlist("filter_by.cluster_sources")) and "API" not in sources:
        clusters = []
    if pinned := query.get("filter_by.is_pinned"):
        clusters = [c for c in clusters if bool(c["pinned"]) == (pinned.lower() == "true")]
    if query.get("filter_by.policy_id"):
        clusters = []
    if query.get("sort_by.field") == "CLUSTER_NAME":
        clusters = sorted(clusters, key=lambda c: c["spec"]["cluster_name"])
    return clusters[::-1] if query.get("sort_by.direction") == "DESC" else clusters
