"""`spark.catalog`'s namespaces: catalogs made after Sail's start are known here, and only here."""

import pyarrow as pa
from pyspark.sql.connect.proto import base_pb2, catalog_pb2

from local_workspace.sql.connect import answers
from local_workspace.sql.connect.sessions import DEFAULT_SCHEMA, ClientSession
from local_workspace.sql.lake.commands import strings
from local_workspace.sql.lake.context import NOTHING, Lake


def use_catalog(lake: Lake, client: ClientSession, name: str) -> None:
    """Stand in a catalog's default schema. Raises SqlError."""
    catalog = lake.catalog.call("GET", "catalogs", name)["name"]
    client.use(catalog, DEFAULT_SCHEMA)


def use_schema(lake: Lake, client: ClientSession, name: str) -> None:
    """Stand in a schema, named with its catalog or without. Raises SqlError."""
    full_name = name if "." in name else f"{client.catalog}.{name}"
    record = lake.catalog.call("GET", "schemas", full_name.replace("`", ""))
    client.use(*record["full_name"].split("."))


def _catalogs(lake: Lake, pattern: str) -> pa.Table:
    found = lake.catalog.call("GET", "catalogs")["catalogs"]
    wanted = [record for record in found if pattern in ("", "*", record["name"])]
    return strings("name", "description", rows=[(record["name"], record.get("comment")) for record in wanted])


def answer(lake: Lake, client: ClientSession, asked: catalog_pb2.Catalog) -> base_pb2.ExecutePlanResponse | None:
    """What one of `spark.catalog`'s methods gives, or None when it is Sail's to know. Raises SqlError."""
    match asked.WhichOneof("cat_type"):
        case "current_catalog":
            table = strings("value", rows=[(client.catalog,)])
        case "current_database":
            table = strings("value", rows=[(client.schema,)])
        case "set_current_catalog":
            use_catalog(lake, client, asked.set_current_catalog.catalog_name)
            table = NOTHING
        case "set_current_database":
            use_schema(lake, client, asked.set_current_database.db_name)
            table = NOTHING
        case "refresh_table":
            table = NOTHING  # each plan reads the newest version
        case "list_catalogs":
            table = _catalogs(lake, asked.list_catalogs.pattern)
        case _:
            return None
    return answers.rows(table)
