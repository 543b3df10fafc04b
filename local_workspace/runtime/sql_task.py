"""A SQL task: the statements of a file or a saved query, one after the other through the statement API."""

import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_workspace.runtime.display import as_text
from local_workspace.runtime.magics import PLACEHOLDER, statements
from local_workspace.runtime.outputs import Table

if TYPE_CHECKING:
    from local_workspace.runtime.shell import Shell

API = "/api/2.0/sql/statements"
OPEN = ("PENDING", "RUNNING")
POLL_SECONDS = 0.5
MAX_ROWS = 1000
"""Rows kept for tasks that refer to `{{tasks.<key>.output.rows}}`."""


class StatementError(Exception):
    """A statement has failed."""


def run_sql(shell: "Shell", source: str, query_id: str, warehouse_id: str) -> dict[str, Any]:
    """Run all statements; their ids, text and the last one's rows. Raises StatementError, RestError."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("cancelled"))
    text = Path(source).read_text() if source else _query(shell, query_id)
    ids, rows = [], []
    for statement in statements(text):
        answer = _execute(shell, statement, warehouse_id)
        ids.append({"lookup_key": answer["statement_id"]})
        columns = answer.get("manifest", {}).get("schema", {}).get("columns", [])
        names = [column["name"] for column in columns]
        data = answer.get("result", {}).get("data_array") or []
        rows = [dict(zip(names, row, strict=True)) for row in data[:MAX_ROWS]]
        if names:
            print(as_text(Table(names, [column.get("type_text", "") for column in columns], data)))
    output = {"query_text": text, "warehouse_id": warehouse_id, "sql_statements": ids}
    return {"sql": output, "rows": rows}


def _query(shell: "Shell", query_id: str) -> str:
    return json.loads(shell.rest.get(f"/api/2.0/sql/queries/{query_id}"))["query_text"]


def _execute(shell: "Shell", statement: str, warehouse_id: str) -> dict[str, Any]:
    values = shell.context.parameters
    named = [{"name": name, "value": values[name]} for name in set(PLACEHOLDER.findall(statement)) if name in values]
    body = {"statement": statement, "warehouse_id": warehouse_id, "parameters": named, "wait_timeout": "50s"}
    answer = shell.rest.post(API, body)
    try:
        while answer["status"]["state"] in OPEN:
            time.sleep(POLL_SECONDS)
            answer = json.loads(shell.rest.get(f"{API}/{answer['statement_id']}"))
    except SystemExit:
        shell.rest.post(f"{API}/{answer['statement_id']}/cancel", {})
        raise
    if answer["status"]["state"] != "SUCCEEDED":
        raise StatementError(answer["status"].get("error", {}).get("message", answer["status"]["state"]))
    return answer
