"""Commits of a Delta table's metadata, for the changes of a schema that delta-rs does not make.

They follow the Delta protocol's section on column mapping: a column is renamed or dropped in the schema alone, since
files know it by its physical name (https://github.com/delta-io/delta/blob/master/PROTOCOL.md#column-mapping).
"""

import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

PHYSICAL, COLUMN_ID = "delta.columnMapping.physicalName", "delta.columnMapping.id"
MODE, MAX_ID = "delta.columnMapping.mode", "delta.columnMapping.maxColumnId"


@dataclass
class Metadata:
    """A table's metadata, to be changed and committed."""

    action: dict[str, Any]
    fields: list[dict[str, Any]]
    properties: dict[str, str]
    protocol: dict[str, Any] = field(default_factory=dict)
    """Empty while it stays as it is."""

    @classmethod
    def of(cls, table: DeltaTable) -> "Metadata":
        """The metadata of a table as it is open."""
        now = table.metadata()
        action = {
            "id": str(now.id),
            "name": now.name,
            "description": now.description,
            "format": {"provider": "parquet", "options": {}},
            "partitionColumns": now.partition_columns,
            "createdTime": now.created_time,
        }
        return cls(action, json.loads(table.schema().to_json())["fields"], dict(now.configuration))

    @property
    def mapped(self) -> bool:
        """Whether columns have physical names of their own."""
        return self.properties.get(MODE, "none") != "none"

    def map_columns(self, table: DeltaTable) -> None:
        """Turn column mapping on: columns keep the names they have in the files. Nested ones are numbered too."""
        if self.mapped:
            return
        for column in _nested(self.fields):
            self._number(column, column["name"])
        self.properties[MODE] = "name"
        now = table.protocol()
        reader, writer = max(now.min_reader_version, 2), max(now.min_writer_version, 5)
        self.protocol = {"minReaderVersion": reader, "minWriterVersion": writer}
        if reader >= 3:
            self.protocol["readerFeatures"] = sorted({*(now.reader_features or []), "columnMapping"})
        if writer >= 7:
            self.protocol["writerFeatures"] = sorted({*(now.writer_features or []), "columnMapping"})

    def add(self, fields: list[dict[str, Any]]) -> None:
        """More columns at the end."""
        for column in _nested(fields) if self.mapped else []:
            self._number(column, f"col-{uuid.uuid4()}")
        self.fields += fields

    def _number(self, column: dict[str, Any], physical_name: str) -> None:
        number = int(self.properties.get(MAX_ID, "0")) + 1
        self.properties[MAX_ID] = str(number)
        column["metadata"] = column["metadata"] | {PHYSICAL: physical_name, COLUMN_ID: number}

    def column(self, name: str) -> dict[str, Any]:
        """A column by its exact name."""
        return next(column for column in self.fields if column["name"] == name)


def _nested(fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Columns and the fields of the structures in them."""
    found = []

    def walk(data_type: Any) -> None:
        if not isinstance(data_type, dict):
            return
        for inner in data_type.get("fields", []):
            found.append(inner)
            walk(inner["type"])
        for part in ("elementType", "keyType", "valueType"):
            walk(data_type.get(part))

    walk({"fields": fields})
    return found


def change_metadata(table: DeltaTable, operation: str, change: Callable[[Metadata], Any]) -> None:
    """Apply `change` to a table's metadata in one commit, after whatever was committed meanwhile."""
    while True:
        metadata = Metadata.of(table)
        change(metadata)
        schema = {"type": "struct", "fields": metadata.fields}
        now = int(time.time() * 1000)
        info = {"timestamp": now, "operation": operation, "operationParameters": {}, "engineInfo": "local_workspace"}
        actions: list[dict[str, Any]] = [{"commitInfo": info}]
        if metadata.protocol:
            actions.append({"protocol": metadata.protocol})
        configuration = {"configuration": metadata.properties, "schemaString": json.dumps(schema)}
        actions.append({"metaData": metadata.action | configuration})
        if _committed(Path(table.table_uri.removeprefix("file://")), table.version() + 1, actions):
            table.update_incremental()
            return
        table.update_incremental()


def _committed(folder: Path, version: int, actions: list[dict[str, Any]]) -> bool:
    """Write one commit, whole and durable; False when somebody else has that version."""
    log = folder / "_delta_log"
    made = log / f".{uuid.uuid4().hex}.tmp"
    with made.open("w") as file:
        file.write("\n".join(json.dumps(action) for action in actions) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(made, log / f"{version:020d}.json")
    except FileExistsError:
        return False
    finally:
        made.unlink()
    directory = os.open(log, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return True
