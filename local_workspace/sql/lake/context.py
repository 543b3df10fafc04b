"""What every statement is run with: the engine's parts, built once."""

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from local_workspace.sql.lake.catalog import Catalog
from local_workspace.sql.lake.sail import Sessions
from local_workspace.sql.lake.tables import Tables

NOTHING = pa.table({})


@dataclass(frozen=True)
class Lake:
    """The parts of the engine."""

    sail: Sessions
    catalog: Catalog
    tables: Tables
    names: set[str] = field(default_factory=set)
    """Names of views and functions seen so far: a statement with one of them is expanded before Sail refuses it."""

    def location(self, full_name: str) -> str:
        """Where a registered table lies. Raises SqlError."""
        return self.catalog.table(full_name)["storage_location"]

    def refresh(self, full_name: str, location: str, **changes: Any) -> None:
        """Tell the catalog a table's columns and properties after they have changed."""
        table = self.tables.open(location)
        self.catalog.engine(
            "PATCH",
            "tables",
            full_name,
            json={"fields": self.tables.fields(location), "properties": table.metadata().configuration} | changes,
        )
