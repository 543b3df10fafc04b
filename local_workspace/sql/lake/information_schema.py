"""`information_schema`: what the catalog knows, as tables with the documented columns."""

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.errors import table_not_found
from local_workspace.unity_catalog.columns import column_info

Record = dict[str, Any]
MOMENT = pa.timestamp("us", "UTC")
TYPES = {"ordinal_position": pa.int32(), "created": MOMENT, "last_altered": MOMENT, "numeric_precision": pa.int32()}
TYPES |= {"numeric_scale": pa.int32()}
CHANGES = "created created_by last_altered last_altered_by"


def _changes(record: Record) -> list[Any]:
    moments = [
        datetime.datetime.fromtimestamp(record[key] / 1000, datetime.UTC) for key in ("created_at", "updated_at")
    ]
    return [moments[0], record["created_by"], moments[1], record["updated_by"]]


def _names(record: Record) -> list[str]:
    return record["full_name"].split(".")


def _yes(value: bool) -> str:
    return "YES" if value else "NO"


def _catalogs(find: "Find") -> Iterator[list[Any]]:
    for record in find("catalog"):
        yield [record["name"], record["owner"], record.get("comment"), *_changes(record)]


def _schemata(find: "Find") -> Iterator[list[Any]]:
    for record in find("schema"):
        yield [*_names(record), record["owner"], record.get("comment"), *_changes(record)]


def _tables(find: "Find") -> Iterator[list[Any]]:
    for record in find("table"):
        view = record["table_type"] == "VIEW"
        yield [
            *_names(record),
            record["table_type"],
            _yes(not view),
            "NO",
            record["owner"],
            record.get("comment"),
            *_changes(record),
            None if view else "DELTA",
            record.get("storage_location"),
        ]


def _columns(find: "Find") -> Iterator[list[Any]]:
    for record in find("table"):
        for position, field in enumerate(record["fields"]):
            info = column_info(field, position)
            default = field["metadata"].get("CURRENT_DEFAULT")
            kind = info["type_name"]
            yield [
                *_names(record),
                field["name"],
                position,
                default,
                _yes(field["nullable"]),
                info["type_text"].upper(),
                kind,
                info.get("type_precision"),
                info.get("type_scale"),
                info.get("comment"),
            ]


def _views(find: "Find") -> Iterator[list[Any]]:
    for record in find("table"):
        if record["table_type"] == "VIEW":
            yield [*_names(record), record["view_definition"], "NONE", "NO", "NO", record["owner"]]


def _volumes(find: "Find") -> Iterator[list[Any]]:
    for record in find("volume"):
        yield [
            *_names(record),
            record["volume_type"],
            record["owner"],
            record.get("comment"),
            record["storage_location"],
            *_changes(record),
        ]


def _routines(find: "Find") -> Iterator[list[Any]]:
    for record in find("function"):
        body = "PYTHON" if record["routine_body"] == "EXTERNAL" else "SQL"
        yield [
            *_names(record),
            *_names(record),
            "FUNCTION",
            record.get("full_data_type"),
            body,
            record["routine_definition"],
            record["owner"],
            record.get("comment"),
            *_changes(record),
        ]


def _parameters(find: "Find") -> Iterator[list[Any]]:
    for record in find("function"):
        for position, parameter in enumerate(record["input_params"].get("parameters", [])):
            yield [
                *_names(record),
                position,
                "IN",
                parameter["name"],
                parameter["type_text"].upper(),
                parameter.get("parameter_default"),
            ]


def _privileges(kind: str) -> Callable[["Find"], Iterator[list[Any]]]:
    def rows(find: "Find") -> Iterator[list[Any]]:
        for grant in find.grants(kind):
            privilege = grant["privilege"].replace("_", " ")
            yield [find.owner, grant["principal"], *_names(grant), privilege, "NO", "NONE"]

    return rows


def _tags(kind: str) -> Callable[["Find"], Iterator[list[Any]]]:
    def rows(find: "Find") -> Iterator[list[Any]]:
        for record in find(kind):
            for name, value in record.get("tags", {}).items():
                yield [*_names(record), name, value]

    return rows


class Find:
    """The catalog's records as one `information_schema` shows them: those of a catalog, or all of them."""

    def __init__(self, lake: Lake, catalog: str):
        self._lake = lake
        self._catalog = "" if catalog == "system" else catalog
        self.owner = lake.catalog.call("GET", "catalogs", "main" if catalog == "system" else catalog)["owner"]

    def __call__(self, kind: str) -> list[Record]:
        return self._lake.catalog.engine("GET", "all", kind, params={"catalog": self._catalog})["securables"]

    def grants(self, kind: str) -> list[Record]:
        """The privileges on securables of a kind."""
        found = self._lake.catalog.engine("GET", "grants")["grants"]
        return [g for g in found if g["kind"] == kind and self._catalog in ("", _names(g)[0])]


T = "table_catalog table_schema table_name"
V = "volume_catalog volume_schema volume_name"
ROUTINE = "specific_catalog specific_schema specific_name"
GRANT = "privilege_type is_grantable inherited_from"
TABLES: dict[str, tuple[str, Callable[[Find], Iterator[list[Any]]]]] = {
    "catalogs": (f"catalog_name catalog_owner comment {CHANGES}", _catalogs),
    "schemata": (f"catalog_name schema_name schema_owner comment {CHANGES}", _schemata),
    "tables": (
        f"{T} table_type is_insertable_into commit_action table_owner comment {CHANGES} "
        "data_source_format storage_path",
        _tables,
    ),
    "columns": (
        f"{T} column_name ordinal_position column_default is_nullable full_data_type data_type "
        "numeric_precision numeric_scale comment",
        _columns,
    ),
    "views": (f"{T} view_definition check_option is_updatable is_insertable_into view_owner", _views),
    "volumes": (f"{V} volume_type volume_owner comment storage_location {CHANGES}", _volumes),
    "routines": (
        f"{ROUTINE} routine_catalog routine_schema routine_name routine_type full_data_type routine_body "
        f"routine_definition routine_owner comment {CHANGES}",
        _routines,
    ),
    "parameters": (
        f"{ROUTINE} ordinal_position parameter_mode parameter_name full_data_type parameter_default",
        _parameters,
    ),
    "catalog_privileges": (f"grantor grantee catalog_name {GRANT}", _privileges("catalog")),
    "schema_privileges": (f"grantor grantee catalog_name schema_name {GRANT}", _privileges("schema")),
    "table_privileges": (f"grantor grantee {T} {GRANT}", _privileges("table")),
    "volume_privileges": (f"grantor grantee {V} {GRANT}", _privileges("volume")),
    "routine_privileges": (f"grantor grantee {ROUTINE} {GRANT}", _privileges("function")),
    "catalog_tags": ("catalog_name tag_name tag_value", _tags("catalog")),
    "schema_tags": ("catalog_name schema_name tag_name tag_value", _tags("schema")),
    "table_tags": ("catalog_name schema_name table_name tag_name tag_value", _tags("table")),
    "volume_tags": ("catalog_name schema_name volume_name tag_name tag_value", _tags("volume")),
}


def rows(lake: Lake, catalog: str, name: str) -> pa.Table:
    """One table of a catalog's `information_schema`; that of `system` tells about all catalogs. Raises SqlError."""
    if name not in TABLES:
        raise table_not_found(f"{catalog}.information_schema.{name}")
    names, records = TABLES[name]
    columns = names.split()
    found = list(records(Find(lake, catalog)))
    data = zip(*found, strict=True) if found else [()] * len(columns)
    return pa.table(
        {column: pa.array(values, TYPES.get(column, pa.string())) for column, values in zip(columns, data, strict=True)}
    )
