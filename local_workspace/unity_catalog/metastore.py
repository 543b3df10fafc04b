"""The one metastore of a local workspace, the privileges that come from above, and tables by patterns of names."""

import re
import uuid
from typing import Any

from fastapi import APIRouter, Query

from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest, NotImplementedHere
from local_workspace.parity import differs
from local_workspace.unity_catalog.store import DEPTH

PREFIX = "/api/2.1/unity-catalog"
NAME = "local"


def router(ws: LocalWorkspace) -> APIRouter:
    """The metastore's summary and assignment, effective permissions and table summaries."""
    api = APIRouter(prefix=PREFIX)
    store = ws.catalog
    metastore_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"metastore-{ws.workspace_id}"))

    def metastore() -> dict[str, Any]:
        main = store.get("catalog", "main")
        return {
            "metastore_id": metastore_id,
            "global_metastore_id": f"local:local:{metastore_id}",
            "name": NAME,
            "cloud": "local",
            "region": "local",
            "owner": ws.auth.OWNER,
            "created_at": main["created_at"],
            "created_by": ws.auth.OWNER,
            "privilege_model_version": "1.0",
            "storage_root": ws.config.root.as_uri(),
        }

    @api.get("/metastore_summary")
    @differs("there is one metastore, made with the workspace")
    def summary() -> dict[str, Any]:
        return metastore()

    @api.get("/current-metastore-assignment")
    def assignment() -> dict[str, Any]:
        return {
            "metastore_id": metastore_id,
            "workspace_id": int(ws.workspace_id),
            "default_catalog_name": "main",
        }

    @api.get("/metastores")
    @differs("there is one metastore, made with the workspace")
    def metastores() -> dict[str, Any]:
        return {"metastores": [metastore()]}

    @api.get("/effective-permissions/{kind}/{full_name}")
    @differs("what is granted on the object and on those it lies in; that owners may do all is not spelled out")
    def effective(kind: str, full_name: str, principal: str = "") -> dict[str, Any]:
        kind = kind.lower()
        if kind not in DEPTH:
            raise NotImplementedHere(f"local_workspace does not have Unity Catalog's securable type {kind!r}")
        store.get(kind, full_name)
        names = full_name.lower().split(".")
        places = [(kind, ".".join(names))]
        places += [(above, ".".join(names[:n])) for above, n in (("schema", 2), ("catalog", 1)) if n < len(names)]
        found: dict[str, list[dict[str, Any]]] = {}
        for place, name in places:
            origin = {} if place == kind else {"inherited_from_type": place.upper(), "inherited_from_name": name}
            for holder, privileges in store.grants(place, name).items():
                found.setdefault(holder, []).extend({"privilege": p} | origin for p in privileges)
        shown = {who: held for who, held in found.items() if principal in ("", who)}
        return {"privilege_assignments": [{"principal": who, "privileges": held} for who, held in shown.items()]}

    @api.get("/table-summaries")
    def table_summaries(
        catalog_name: str,
        schema_name_pattern: str = "%",
        table_name_pattern: str = "%",
        max_results: int = Query(0, ge=0),
        page_token: str = "",
    ) -> dict[str, Any]:
        schemas, tables = _pattern(schema_name_pattern), _pattern(table_name_pattern)
        found = [
            table
            for schema in store.children("schema", catalog_name)
            if schemas.fullmatch(schema["name"])
            for table in store.children("table", schema["full_name"])
            if tables.fullmatch(table["name"]) and table["full_name"] > page_token
        ]
        found.sort(key=lambda table: table["full_name"])
        shown = found[:max_results] if max_results else found
        answer: dict[str, Any] = {
            "tables": [{"full_name": t["full_name"], "table_type": t["table_type"]} for t in shown]
        }
        return answer | ({"next_page_token": shown[-1]["full_name"]} if len(shown) < len(found) else {})

    return api


def _pattern(like: str) -> re.Pattern[str]:
    """SQL's LIKE as a regular expression. Raises BadRequest when it is too long."""
    if len(like) > 255:
        raise BadRequest("a pattern must not be longer than 255 characters")
    parts = {"%": ".*", "_": "."}
    return re.compile("".join(parts.get(char, re.escape(char)) for char in like.lower()), re.DOTALL)
