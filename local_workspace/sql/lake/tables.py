"""Delta tables by delta-rs: making them, appending, schema changes and maintenance."""

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema, write_deltalake
from deltalake.exceptions import DeltaError
from deltalake.transaction import Transaction

from local_workspace.sql.lake.errors import SqlError

# 8 writers of 50 appends each lost 5 of 400 commits at delta-rs's 15 retries.
COMMIT_RETRIES = 1000
MAX_HANDLES = 256


def inert(properties: dict[str, str]) -> dict[str, str]:
    """Properties as they go into a Delta log: the Change Data Feed's in lower case, which neither engine acts on.

    Sail writes no table that has it. It is shown, and asks for what indexes do with any table: compare versions.
    """
    feed = "delta.enableChangeDataFeed"
    return {feed.lower() if key.lower() == feed.lower() else key: value for key, value in properties.items()}


def path_of(location: str) -> str:
    """The folder of a storage location."""
    return location.removeprefix("file://")


@dataclass
class Append:
    """Rows on their way into a table."""

    rows: pa.Table
    version: int | None = None
    error: Exception | None = None


class Tables:
    """Handles of Delta tables by location, each brought up to date before use."""

    def __init__(self) -> None:
        self._handles: dict[str, DeltaTable] = {}
        self._locks: dict[str, threading.RLock] = {}
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Append]] = {}

    def lock(self, location: str) -> threading.RLock:
        """The lock of what writes one table in this process: commits need not be tried again for each other."""
        with self._lock:
            return self._locks.setdefault(location, threading.RLock())

    def open(self, location: str) -> DeltaTable:
        """The table as it is now."""
        with self._lock:
            table = self._handles.pop(location, None)
            if table is None:
                table = DeltaTable(path_of(location))
            else:
                table.update_incremental()
            self._handles[location] = table
            while len(self._handles) > MAX_HANDLES:
                self._handles.pop(next(iter(self._handles)))
            return table

    def exists(self, location: str) -> bool:
        """Whether the folder holds a Delta table."""
        return DeltaTable.is_deltatable(path_of(location))

    def fields(self, location: str) -> list[dict[str, Any]]:
        """The table's columns as Delta schema fields."""
        return json.loads(self.open(location).schema().to_json())["fields"]

    def column(self, location: str, name: str) -> str:
        """A column's name as the table spells it. Raises SqlError."""
        found = [field["name"] for field in self.fields(location) if field["name"].lower() == name.lower()]
        if not found:
            raise SqlError("UNRESOLVED_COLUMN", f"A column with name `{name}` cannot be resolved.", "42703")
        return found[0]

    def create(
        self,
        location: str,
        fields: list[dict[str, Any]],
        *,
        properties: dict[str, str] | None = None,
        comment: str | None = None,
        partition_by: list[str] | None = None,
        replace: bool = False,
    ) -> None:
        """Write a table's first version, or with `replace` a new version that is empty."""
        Path(path_of(location)).mkdir(parents=True, exist_ok=True)
        DeltaTable.create(
            path_of(location),
            Schema.from_json(json.dumps({"type": "struct", "fields": fields})),
            mode="overwrite" if replace else "error",
            partition_by=partition_by,
            description=comment,
            configuration=inert(properties or {}),
            raise_if_key_not_exists=False,
        )

    def arrow_schema(self, location: str) -> pa.Schema:
        """The table's columns in pyarrow's terms."""
        return pa.schema(self.open(location).schema().to_arrow())

    def append(self, location: str, rows: pa.Table) -> int:
        """Append rows durably and give the version. Raises SqlError.

        Rows that wait for another append go together into the next commit.
        """
        mine = Append(rows)
        with self._lock:
            self._waiting.setdefault(location, []).append(mine)
        with self.lock(location):
            if mine.version is None and mine.error is None:
                with self._lock:
                    together = self._waiting.pop(location)
                self._commit(location, together)
        if mine.error is not None:
            raise SqlError("DELTA_FAILED_TO_APPEND", str(mine.error), "KD009") from mine.error
        if mine.version is None:
            raise RuntimeError("an append was left out of its commit")
        return mine.version

    def commit(self, location: str, rows: pa.Table, transactions: list[Transaction], *, merge: bool = False) -> None:
        """Append rows and application transactions in one commit of their own; `merge` adds new columns.

        Raises SqlError.
        """
        try:
            write_deltalake(
                self.open(location),
                rows,
                mode="append",
                schema_mode="merge" if merge else None,
                commit_properties=CommitProperties(max_commit_retries=COMMIT_RETRIES, app_transactions=transactions),
                post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
            )
        except (DeltaError, pa.ArrowInvalid, ValueError, OSError) as error:
            raise SqlError("DELTA_FAILED_TO_APPEND", str(error), "KD009") from error

    def _commit(self, location: str, together: list["Append"]) -> None:
        table = self.open(location)
        try:
            write_deltalake(
                table,
                pa.concat_tables([append.rows for append in together]),
                mode="append",
                commit_properties=CommitProperties(max_commit_retries=COMMIT_RETRIES),
                post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
            )
        except (DeltaError, pa.ArrowInvalid, ValueError, OSError) as error:
            for append in together:
                append.error = error
            return
        for append in together:
            append.version = table.version()
