"""A statement for the workspace's own services: run it, wait for it, have its rows."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from local_workspace.errors import BadRequest, Unavailable
from local_workspace.sql.statements import Statements
from local_workspace.sql.store import StatementStore

SECONDS = 300.0


@dataclass(frozen=True)
class Answer:
    """The rows of a statement; values are strings, as the statement API gives them."""

    columns: list[str]
    types: list[str]
    rows: list[list[str | None]]
    truncated: bool


class Asking:
    """Statements that services run for a user."""

    def __init__(self, statements: Statements, store: StatementStore):
        self._statements = statements
        self._store = store

    async def ask(
        self,
        sql: str,
        user: str,
        *,
        catalog: str = "main",
        schema: str = "default",
        parameters: Sequence[dict[str, Any]] = (),
        limit: int | None = None,
    ) -> Answer:
        """The rows of a statement, at most `limit`. Raises BadRequest with the engine's message, Unavailable."""
        statement_id = self._statements.submit(
            {
                "sql": sql,
                "catalog": catalog,
                "schema_name": schema,
                "user": user,
                "parameters": list(parameters),
                "row_limit": limit,
                "byte_limit": None,
            }
        )
        if not await self._statements.wait(statement_id, SECONDS):
            await self._statements.cancel(statement_id)
            raise Unavailable(f"the statement did not end within {SECONDS:g} s")
        record = self._store.get(statement_id)
        if record["state"] != "SUCCEEDED":
            raise BadRequest((record["error"] or {}).get("message", f"the statement is {record['state']}"))
        return await asyncio.to_thread(self._read, statement_id, record["manifest"])

    def _read(self, statement_id: str, manifest: dict[str, Any]) -> Answer:
        columns = manifest["schema"].get("columns", [])
        folder = self._store.folder(statement_id)
        rows = [row for i in range(len(manifest["chunks"])) for row in json.loads((folder / f"{i}.json").read_bytes())]
        names, types = ([column[key] for column in columns] for key in ("name", "type_text"))
        return Answer(names, types, rows, bool(manifest.get("truncated")))
