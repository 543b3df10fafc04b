"""Data frames saved as tables: what Sail cannot do with a managed table is done here, the rest is left to it."""

from collections.abc import Sequence

from pyspark.sql.connect.proto import base_pb2, commands_pb2, expressions_pb2

from local_workspace.sql.connect.sessions import ClientSession
from local_workspace.sql.connect.writing import Writing
from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.errors import SqlError, table_not_found, unsupported
from local_workspace.sql.lake.tokens import tokens_of
from local_workspace.sql.lake.words import Words

DONE = base_pb2.ExecutePlanResponse
Save = commands_pb2.WriteOperation
To = commands_pb2.WriteOperationV2


def _name(client: ClientSession, identifier: str) -> str:
    words = Words(identifier, tokens_of(identifier), client.catalog, client.schema)
    name = words.name(3)
    words.end()
    return name.lower()


def _columns(expressions: Sequence[expressions_pb2.Expression]) -> list[str]:
    if not all(expression.HasField("unresolved_attribute") for expression in expressions):
        raise unsupported("partitions by a function of a column: name the column itself")
    return [expression.unresolved_attribute.unparsed_identifier.strip("`") for expression in expressions]


def _only_delta(source: str) -> None:
    if source.lower() not in ("", "delta"):
        raise unsupported(f"tables of the format {source}: tables are Delta here")


def _exists(name: str) -> SqlError:
    return SqlError(
        "TABLE_OR_VIEW_ALREADY_EXISTS",
        f"Cannot create table or view {name} because it already exists. Choose another name or mode.",
        "42P07",
    )


def _options(given: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in given.items()}


def save(lake: Lake, client: ClientSession, write: Save) -> base_pb2.ExecutePlanResponse | None:
    """`df.write…saveAsTable(name)`; None when it is Sail's to do. Raises SqlError."""
    if write.table.save_method != Save.SaveTable.TABLE_SAVE_METHOD_SAVE_AS_TABLE:
        return None
    _only_delta(write.source)
    options = _options(dict(write.options))
    if "path" in options or write.HasField("bucket_by") or write.sort_column_names:
        raise unsupported("a path, buckets or a sort order in saveAsTable")
    name = _name(client, write.table.table_name)
    columns = list(write.partitioning_columns), list(write.clustering_columns)
    writing = Writing(lake, client, write.input, name, *columns)
    if lake.catalog.find("table", name) is None:
        writing.create()
        return DONE()
    match write.mode:
        case Save.SAVE_MODE_IGNORE:
            return DONE()
        case Save.SAVE_MODE_APPEND if options.get("mergeschema", "").lower() == "true":
            writing.append_with_new_columns(lake.location(name))
            return DONE()
        case Save.SAVE_MODE_APPEND:
            return None
        case Save.SAVE_MODE_OVERWRITE if options.get("partitionoverwritemode", "").lower() == "dynamic":
            raise unsupported("partitionOverwriteMode dynamic in saveAsTable: use the option replaceWhere")
        case Save.SAVE_MODE_OVERWRITE:
            schema_too = options.get("overwriteschema", "").lower() == "true"
            writing.overwrite(lake.location(name), schema_too=schema_too, where=options.get("replacewhere"))
            return DONE()
    raise _exists(name)


def write_to(lake: Lake, client: ClientSession, write: To) -> base_pb2.ExecutePlanResponse | None:
    """`df.writeTo(name)…`; None when it is Sail's to do. Raises SqlError."""
    if write.mode not in (To.MODE_CREATE, To.MODE_REPLACE, To.MODE_CREATE_OR_REPLACE):
        return None
    _only_delta(write.provider)
    name = _name(client, write.table_name)
    columns = _columns(write.partitioning_columns), list(write.clustering_columns)
    writing = Writing(lake, client, write.input, name, *columns, dict(write.table_properties))
    there = lake.catalog.find("table", name)
    if there and write.mode == To.MODE_CREATE:
        raise _exists(name)
    if there is None and write.mode == To.MODE_REPLACE:
        raise table_not_found(name)
    if there is None:
        writing.create()
    else:
        writing.overwrite(lake.location(name), schema_too=True, where=None)
    return DONE()
