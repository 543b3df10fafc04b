"""The query history: the statements of all warehouses, as the SDK's `QueryInfo`."""

import base64
import binascii
import zlib
from typing import Any

from fastapi import APIRouter, Query, Request

from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest
from local_workspace.parity import differs
from local_workspace.sql.store import FINISHED, Wanted

STATES = {"QUEUED": ["PENDING"], "RUNNING": ["RUNNING"], "FINISHED": ["SUCCEEDED", "CLOSED"], "FAILED": ["FAILED"]}
STATES |= {"CANCELED": ["CANCELED"], "STARTED": [], "COMPILING": [], "COMPILED": []}
STATUSES = {state: status for status, states in STATES.items() for state in states}
TYPES = "ALTER ANALYZE COPY CREATE DELETE DESCRIBE DROP EXPLAIN GRANT INSERT MERGE OPTIMIZE REFRESH REPLACE REVOKE"
STATEMENT_TYPES = {*TYPES.split(), "SELECT", "SET", "SHOW", "TRUNCATE", "UPDATE", "USE"}
SAME_TYPE = {"WITH": "SELECT", "VALUES": "SELECT", "FROM": "SELECT", "DESC": "DESCRIBE"}
FILTERS = {
    "filter_by.statuses",
    "filter_by.user_ids",
    "filter_by.warehouse_ids",
    "filter_by.statement_ids",
    "filter_by.query_start_time_range.start_time_ms",
    "filter_by.query_start_time_range.end_time_ms",
}


def user_id(name: str) -> int:
    """The number that SCIM shows for a user."""
    return zlib.crc32(name.encode())


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _metrics(record: dict[str, Any], manifest: dict[str, Any]) -> dict[str, Any]:
    started = record["started_at"] or record["ended_at"]
    return {
        "total_time_ms": _milliseconds(record["ended_at"] - record["submitted_at"]),
        "execution_time_ms": _milliseconds(record["ended_at"] - started),
        "rows_produced_count": manifest.get("total_row_count", 0),
        "network_sent_bytes": manifest.get("total_byte_count", 0),
    }


def described(record: dict[str, Any], *, metrics: bool) -> dict[str, Any]:
    """A statement as `QueryInfo`."""
    first = (record["text"].split(maxsplit=1) or [""])[0].upper()
    kind = SAME_TYPE.get(first, first)
    final = record["state"] in FINISHED
    manifest = record["manifest"] or {}
    info: dict[str, Any] = {
        "query_id": record["id"],
        "query_text": record["text"],
        "status": STATUSES[record["state"]],
        "statement_type": kind if kind in STATEMENT_TYPES else "OTHER",
        "warehouse_id": record["warehouse_id"],
        "endpoint_id": record["warehouse_id"],
        "user_id": user_id(record["user"]),
        "user_name": record["user"],
        "executed_as_user_id": user_id(record["user"]),
        "executed_as_user_name": record["user"],
        "query_start_time_ms": _milliseconds(record["submitted_at"]),
        "is_final": final,
        "plans_state": "UNKNOWN",
        "query_tags": record["tags"],
    }
    if final:
        info["query_end_time_ms"] = info["execution_end_time_ms"] = _milliseconds(record["ended_at"])
        info["duration"] = _milliseconds(record["ended_at"] - record["submitted_at"])
        info["rows_produced"] = manifest.get("total_row_count", 0)
        if metrics:
            info["metrics"] = _metrics(record, manifest)
    if record["error"]:
        info["error_message"] = record["error"]["message"]
    return info


def _token(record: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(f"{record['submitted_at']!r} {record['id']}".encode()).decode()


def _before(token: str) -> tuple[float, str] | None:
    if not token:
        return None
    try:
        moment, statement_id = base64.urlsafe_b64decode(token).decode().split(" ")
        return float(moment), statement_id
    except (ValueError, binascii.Error) as error:
        raise BadRequest(f"page_token {token[:40]!r} is not one that this workspace has given.") from error


def router(ws: LocalWorkspace) -> APIRouter:
    """The query history API."""
    api = APIRouter()
    store = ws.statement_store

    def wanted(request: Request) -> Wanted:
        given = request.query_params
        if unknown := sorted(name for name in given if name.startswith("filter_by") and name not in FILTERS):
            raise BadRequest(f"{unknown[0]} is not a filter: there are {', '.join(sorted(FILTERS))}.")
        statuses = given.getlist("filter_by.statuses")
        if unknown := sorted(set(statuses) - STATES.keys()):
            raise BadRequest(f"filter_by.statuses: {unknown[0]} is none of {', '.join(STATES)}.")
        ids = given.getlist("filter_by.user_ids")
        start, end = (given.get(f"filter_by.query_start_time_range.{name}_time_ms") for name in ("start", "end"))
        if not all(number.isdigit() for number in [*ids, start or "0", end or "0"]):
            raise BadRequest("filter_by: user ids and times are whole numbers.")
        return Wanted(
            # What asks for nobody we know, or for a state that is never taken here, gets nothing.
            states=[state for status in statuses for state in STATES[status]] or ([""] if statuses else []),
            users=[name for name in store.users() if str(user_id(name)) in ids] or ([""] if ids else []),
            warehouse_ids=given.getlist("filter_by.warehouse_ids"),
            statement_ids=given.getlist("filter_by.statement_ids"),
            since=int(start) / 1000 if start else 0.0,
            until=int(end) / 1000 if end else float("inf"),
        )

    @api.get("/api/2.0/sql/history/queries")
    @differs(
        "of the metrics there are times, rows and bytes of the result; statements over Spark Connect are not in it"
    )
    def list_queries(
        request: Request,
        include_metrics: bool = False,
        max_results: int = Query(100, ge=1, le=1000),
        page_token: str = "",
    ) -> dict:
        found = store.history(wanted(request), _before(page_token), max_results + 1)
        shown = found[:max_results]
        answer: dict[str, Any] = {"res": [described(record, metrics=include_metrics) for record in shown]}
        answer["has_next_page"] = len(found) > max_results
        if answer["has_next_page"]:
            answer["next_page_token"] = _token(shown[-1])
        return answer

    return api
