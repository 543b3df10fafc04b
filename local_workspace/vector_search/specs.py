"""What a request says about a new index, checked as far as that needs no table and no engine."""

import json
import re
from typing import Any

from local_workspace.errors import BadRequest, NotImplementedHere

COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
VECTOR_TYPES = ("array<float>", "array<double>")
MAX_DIMENSION = 4096
SYNC_FIELDS = {
    "source_table",
    "pipeline_type",
    "embedding_source_columns",
    "embedding_vector_columns",
    "columns_to_sync",
    "columns_to_index",
    "budget_policy_id",
}


def text(body: dict[str, Any], field: str) -> str:
    """A string that must be there. Raises BadRequest."""
    value = body.get(field)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{field} is required")
    return value


def direct_access(primary_key: str, spec: dict[str, Any]) -> dict[str, Any]:
    """What the engine needs to know of a direct-access index's columns. Raises BadRequest."""
    try:
        schema = json.loads(text(spec, "schema_json"))
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"schema_json is not JSON: {error}") from error
    if not isinstance(schema, dict) or not all(isinstance(kind, str) for kind in schema.values()):
        raise BadRequest('schema_json must be an object of column types such as {"id": "string"}')
    if wrong := [name for name in schema if not COLUMN.fullmatch(name)]:
        raise BadRequest(f"schema_json: {wrong[0]!r} is no column name: letters, digits and underscores are")
    vector, dimension = _vector_column(spec)
    if vector not in schema or schema[vector].lower().replace(" ", "") not in VECTOR_TYPES:
        raise BadRequest(f"embedding_vector_columns: {vector!r} must be in schema_json with type array<float>")
    if primary_key not in schema:
        raise BadRequest(f"primary_key {primary_key!r} is not in schema_json")
    if schema[primary_key].lower() not in ("string", "int", "integer", "long", "bigint", "short", "byte"):
        raise BadRequest(f"primary_key {primary_key!r} must be a string or an integer")
    return {"primary_key": primary_key, "vector": vector, "dimension": dimension, "type_names": schema}


def delta_sync(primary_key: str, spec: dict[str, Any]) -> dict[str, Any]:
    """What the engine needs to know of an index that follows a table. Raises BadRequest, NotImplementedHere."""
    if spec.get("embedding_writeback_table"):
        raise NotImplementedHere("embedding_writeback_table (sync_computed_embeddings) is not available here")
    if unknown := sorted(name for name in set(spec) - SYNC_FIELDS if spec[name] is not None):
        raise NotImplementedHere(f"delta_sync_index_spec.{unknown[0]} is not available in the local workspace")
    if spec.get("pipeline_type") not in ("TRIGGERED", "CONTINUOUS"):
        raise BadRequest("delta_sync_index_spec.pipeline_type must be TRIGGERED or CONTINUOUS")
    sources, vectors = spec.get("embedding_source_columns"), spec.get("embedding_vector_columns")
    if bool(sources) == bool(vectors):
        raise BadRequest("either embedding_source_columns or embedding_vector_columns is needed")
    wanted = spec.get("columns_to_sync") or spec.get("columns_to_index") or None
    if spec.get("columns_to_sync") and spec.get("columns_to_index"):
        raise BadRequest("only one of columns_to_sync and columns_to_index can be given")
    if wanted is not None and not (isinstance(wanted, list) and all(isinstance(name, str) for name in wanted)):
        raise BadRequest("columns_to_sync must be an array of column names")
    shared = {
        "source_table": text(spec, "source_table").lower(),
        "primary_key": primary_key,
        "columns_to_sync": wanted,
    }
    if vectors:
        vector, dimension = _vector_column(spec)
        return shared | {"vector": vector, "dimension": dimension, "text": None, "embedder": None}
    if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict):
        raise BadRequest("embedding_source_columns must name one column")
    column, embedder = text(sources[0], "name"), text(sources[0], "embedding_model_endpoint_name")
    return shared | {"vector": f"__db_{column}_vector", "dimension": None, "text": column, "embedder": embedder}


def _vector_column(spec: dict[str, Any]) -> tuple[str, int]:
    vectors = spec.get("embedding_vector_columns")
    if not isinstance(vectors, list) or len(vectors) != 1 or not isinstance(vectors[0], dict):
        raise BadRequest("embedding_vector_columns must name one column")
    dimension = vectors[0].get("embedding_dimension")
    if not isinstance(dimension, int) or isinstance(dimension, bool) or not 1 <= dimension <= MAX_DIMENSION:
        raise BadRequest(f"embedding_dimension must be a number from 1 to {MAX_DIMENSION}")
    name = vectors[0].get("name")
    if not isinstance(name, str):
        raise BadRequest("embedding_vector_columns: name is required")
    return name, dimension
