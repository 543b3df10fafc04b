"""The Delta tables that requests are recorded in."""

import contextlib
from typing import Any

from local_workspace.errors import BadRequest
from local_workspace.serving.gateway.wire import InferenceTable
from local_workspace.sql.ask import Asking
from local_workspace.unity_catalog.store import CatalogStore, SecurableExists

PAYLOAD = {
    "client_request_id": "STRING",
    "databricks_request_id": "STRING",
    "request_date": "DATE",
    "request_time": "TIMESTAMP",
    "status_code": "INT",
    "sampling_fraction": "DOUBLE",
    "execution_duration_ms": "BIGINT",
    "request": "STRING",
    "response": "STRING",
    "served_entity_id": "STRING",
    "logging_error_codes": "ARRAY<STRING>",
    "requester": "STRING",
}
"""https://docs.databricks.com/aws/en/ai-gateway/inference-tables"""
USAGE_SCHEMA = "main.system_serving"
"""In place of `system.serving`: the SQL engine keeps the catalog `system` for itself."""
USAGE_TABLE = f"{USAGE_SCHEMA}.endpoint_usage"
USAGE = {
    "workspace_id": "STRING",
    "client_request_id": "STRING",
    "databricks_request_id": "STRING",
    "requester": "STRING",
    "status_code": "INT",
    "request_time": "TIMESTAMP",
    "input_token_count": "BIGINT",
    "output_token_count": "BIGINT",
    "usage_context": "STRING",
    "request_streaming": "BOOLEAN",
    "served_entity_id": "STRING",
    "endpoint_name": "STRING",
    "served_entity_name": "STRING",
}
"""https://docs.databricks.com/aws/en/ai-gateway/configure-ai-gateway-endpoints (usage table); the context as JSON."""
MAX_PAYLOAD = 2**20
MICROSECONDS_PER_DAY = 86_400_000_000


def payload_table(endpoint: str, settings: InferenceTable) -> str:
    """The full name of an endpoint's inference table."""
    prefix = (settings.table_name_prefix or endpoint).replace("-", "_")
    return f"{settings.catalog_name}.{settings.schema_name}.{prefix}_payload".lower()


def payload(text: str | None, kind: str, codes: list[str]) -> str | None:
    """A request or response as it is recorded: not at all when it is too long, which `codes` then say."""
    if text is not None and len(text) > MAX_PAYLOAD:
        codes.append(f"MAX_{kind}_SIZE_EXCEEDED")
        return None
    return text


def moment(seconds: float) -> dict[str, Any]:
    """A time in the columns of the inference table (Arrow counts microseconds, and days for dates)."""
    microseconds = int(seconds * 1_000_000)
    return {"request_time": microseconds, "request_date": microseconds // MICROSECONDS_PER_DAY}


class Tables:
    """Makes the tables when they are asked for."""

    def __init__(self, catalog: CatalogStore, asking: Asking, user: str):
        self._catalog = catalog
        self._asking = asking
        self._user = user

    async def payload(self, endpoint: str, settings: InferenceTable) -> None:
        """Make an endpoint's inference table. Raises NotFound for its schema, BadRequest for another kind of table."""
        self._catalog.get("schema", f"{settings.catalog_name}.{settings.schema_name}")
        await self._make(payload_table(endpoint, settings), PAYLOAD)

    async def usage(self) -> None:
        """Make the usage table, and the schema it lies in."""
        with contextlib.suppress(SecurableExists):
            self._catalog.create("schema", USAGE_SCHEMA, self._user)
        await self._make(USAGE_TABLE, USAGE)

    async def _make(self, name: str, columns: dict[str, str]) -> None:
        found = self._catalog.find("table", name)
        if found is None:
            catalog, schema, _ = name.split(".")
            described = ", ".join(f"{column} {kind}" for column, kind in columns.items())
            create = f"CREATE TABLE IF NOT EXISTS {name} ({described})"
            await self._asking.ask(create, self._user, catalog=catalog, schema=schema)
            found = self._catalog.get("table", name)
        there = {column["name"] for column in found["fields"]}
        if missing := [column for column in columns if column not in there]:
            raise BadRequest(
                f"the table {name} exists and is no table of this kind: it has no column {missing[0]}; "
                "choose another table_name_prefix"
            )
