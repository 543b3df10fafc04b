"""`vector_search(…)`: the rows of a vector search index nearest to a text or a vector."""

import json
from typing import Any

import pyarrow as pa
from pyspark.sql.connect.session import SparkSession

from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.errors import SqlError, syntax, unsupported
from local_workspace.sql.lake.files import text_of
from local_workspace.sql.lake.rewriting import Call

NAMED = {"index", "query_text", "query", "query_vector", "num_results", "query_type"}


def vector_search(lake: Lake, session: SparkSession, call: Call) -> pa.Table:
    """The rows of `vector_search(index => …, query_text | query_vector => …, …)`, best first. Raises SqlError."""
    if unknown := sorted(set(call.named) - NAMED):
        raise unsupported(f"the argument {unknown[0]} of vector_search")
    if call.positional or "index" not in call.named:
        raise syntax("vector_search needs index => '…', and its other arguments by name.")
    name = text_of(call.named["index"])
    index = lake.catalog.service("GET", f"/api/2.0/vector-search/indexes/{name}")
    columns = _columns(lake, index)
    body: dict[str, Any] = {"columns": columns, "num_results": int(text_of(call.named.get("num_results", "10")))}
    if asked := call.named.get("query_text") or call.named.get("query"):
        body["query_text"] = text_of(asked)
    if "query_vector" in call.named:
        rows = session.sql(f"SELECT {call.named['query_vector']} AS v").toArrow()
        body["query_vector"] = rows["v"].to_pylist()[0]
    if "query_type" in call.named:
        body["query_type"] = text_of(call.named["query_type"])
    answer = lake.catalog.service("POST", f"/api/2.0/vector-search/indexes/{name}/query", json=body)
    found = answer["result"].get("data_array") or []
    names = [*columns, "search_score"]
    values = zip(*found, strict=True) if found else [()] * len(names)
    return pa.table({column: pa.array(list(of)) for column, of in zip(names, values, strict=True)})


def _columns(lake: Lake, index: dict[str, Any]) -> list[str]:
    """The index's columns, its vectors left out."""
    spec = index.get("direct_access_index_spec") or index.get("delta_sync_index_spec")
    if spec is None:
        raise SqlError("INTERNAL_ERROR", f"The index {index['name']} shows no specification.", "XX000")
    if "schema_json" in spec:
        names = list(json.loads(spec["schema_json"]))
    else:
        synced = spec.get("columns_to_sync")
        names = synced or [field["name"] for field in lake.tables.fields(lake.location(spec["source_table"]))]
    vectors = {column["name"] for column in spec.get("embedding_vector_columns") or []}
    return [name for name in names if name not in vectors]
