"""Delta tables by delta-rs: making them, appending, schema changes and maintenance."""

import json
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema, write_deltalake
from deltalake.exceptions import DeltaError

from local_workspace.sql.lake.errors import SqlError

# 8 writers of 50 appends each lost 5 of 400 commits at delta-rs's 15 retries.
COMMIT_RETRIES = 1000
MAX_HANDLES = 256


def path_of(location: str) -> str:
    """The folder of a storage location."""
    return location.removeprefix("file://")


class Tables:
    """Handles of Delta tables by location, each brought up to date before use."""

    def __init__(self) -> None:
        self._handles: dict[str, DeltaTable] = {}
        self._locks: dict[str, threading.RLock] = {}
        self._lock = threading.Lock()

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
            configuration=dict(properties or {}),
            raise_if_key_not_exists=False,
        )

    def append(self, location: str, rows: pa.Table) -> int:
        """Append rows in one commit and give the version. Raises SqlError when they do not fit the columns."""
        with self.lock(location):
            table = self.open(location)
            try:
                write_deltalake(
                    table,
                    rows,
                    mode="append",
                    commit_properties=CommitProperties(max_commit_retries=COMMIT_RETRIES),
                    post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
                )
            except (DeltaError, pa.ArrowInvalid, ValueError) as error:
                raise SqlError("DELTA_FAILED_TO_APPEND", str(error), "KD009") from error
            return table.version()
