"""The objects that have permissions: that they exist, and whose they are."""

from collections.abc import Callable
from dataclasses import dataclass

from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest, NotFound

TREE = {"notebooks": "NOTEBOOK", "directories": "DIRECTORY", "files": "FILE"}
AUTHORIZATION = ("tokens", "passwords")


@dataclass(frozen=True)
class Owned:
    """An object. Its `key` is never given to another one, unlike a name."""

    key: str
    owner: str


class Objects:
    """Finds objects of every type."""

    def __init__(self, ws: LocalWorkspace):
        self._ws = ws
        self._owner = ws.auth.OWNER
        self._finders: dict[str, Callable[[str], Owned]] = {
            "alerts": self._alert,
            "alertsv2": self._alert,
            "apps": self._app,
            "authorization": self._authorization,
            "clusters": lambda i: Owned(i, ws.compute.clusters.get(i)["creator"]),
            "dashboards": lambda i: Owned(i, ws.dashboards.store.get(i).owner),
            "instance-pools": lambda i: Owned(ws.compute.pools.get(i)["instance_pool_id"], self._owner),
            "jobs": lambda i: Owned(i, ws.jobs.store.job(_number(i)).creator),
            "queries": lambda i: Owned(i, ws.queries.get(i)["owner_user_name"]),
            "registered-models": self._model,
            "serving-endpoints": self._serving,
            "vector-search-endpoints": self._vectors,
            "warehouses": lambda i: Owned(i, ws.warehouses.get(i)["creator"]),
        }

    async def find(self, object_type: str, object_id: str) -> Owned:
        """An object that exists. Raises NotFound, BadRequest."""
        if object_type == "experiments":
            return await self._experiment(object_id)
        if object_type in TREE:
            row = self._ws.objects.by_id(_number(object_id))
            if row is None or row["object_type"] != TREE[object_type]:
                raise NotFound(f"{TREE[object_type].capitalize()} with ID {object_id:.50} does not exist.")
            return Owned(object_id, self._owner)
        return self._finders[object_type](object_id)

    def _alert(self, alert_id: str) -> Owned:
        return Owned(alert_id, self._ws.alerts.store.get(alert_id).owner)

    def _app(self, name: str) -> Owned:
        app = self._ws.apps.store.app(name)
        return Owned(app["id"], app["creator"])

    def _authorization(self, name: str) -> Owned:
        if name not in AUTHORIZATION:
            raise NotFound(f"authorization has {' and '.join(AUTHORIZATION)}; not {name!r:.50}")
        return Owned(name, self._owner)

    def _model(self, full_name: str) -> Owned:
        model = self._ws.catalog.get("model", full_name)
        return Owned(model["id"], model["owner"])

    def _serving(self, endpoint_id: str) -> Owned:
        for endpoint in self._ws.serving.store.all():
            if endpoint.id == endpoint_id:
                return Owned(endpoint_id, endpoint.creator)
        raise NotFound(f"There is no serving endpoint with the id {endpoint_id:.100}: its `id` is meant, not its name.")

    def _vectors(self, endpoint_id: str) -> Owned:
        for endpoint in self._ws.vectors.store.endpoints():
            if endpoint["id"] == endpoint_id:
                return Owned(endpoint_id, endpoint["creator"])
        raise NotFound(f"There is no vector search endpoint with the id {endpoint_id:.100}.")

    async def _experiment(self, experiment_id: str) -> Owned:
        query = {"experiment_id": experiment_id}
        found = await self._ws.tracking.call("GET", "/api/2.0/mlflow/experiments/get", params=query)
        tags = {tag["key"]: tag["value"] for tag in found["experiment"].get("tags", [])}
        return Owned(experiment_id, tags.get("mlflow.ownerEmail", self._owner))


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadRequest(f"the object's id must be a number; got {text!r:.50}")
    return int(text)
