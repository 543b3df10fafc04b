"""An endpoint's request and answer as an OpenAPI document."""

import json
from typing import Any

from pydantic import BaseModel

from local_workspace.serving.requests import REQUESTS

SCALARS = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "format": "int32"},
    "long": {"type": "integer", "format": "int64"},
    "float": {"type": "number", "format": "float"},
    "double": {"type": "number", "format": "double"},
    "string": {"type": "string"},
    "binary": {"type": "string", "format": "byte"},
    "datetime": {"type": "string", "format": "date-time"},
}
ANYTHING: dict[str, Any] = {}


def document(name: str, host: str, task: str | None, signature: dict[str, str] | None) -> dict[str, Any]:
    """The document of one endpoint; `signature` is what MLflow keeps with a model, each part as JSON text."""
    request = _of_task(REQUESTS[task]) if task in REQUESTS else _of_signature(signature or {})
    answer = ANYTHING if task else {"type": "object", "properties": {"predictions": {"type": "array", "items": {}}}}

    def content(schema: dict[str, Any]) -> dict[str, Any]:
        return {"content": {"application/json": {"schema": schema}}}

    operation = {
        "requestBody": content(request) | {"required": True},
        "responses": {"200": {"description": "Successful operation"} | content(answer)},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": "1"},
        "servers": [{"url": f"{host}/serving-endpoints/{name}"}],
        "paths": {"/invocations": {"post": operation}},
    }


def _of_task(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _of_signature(signature: dict[str, str]) -> dict[str, Any]:
    inputs = json.loads(signature.get("inputs") or "[]")
    columns = {column["name"]: _column(column) for column in inputs if "name" in column}
    needed = [column["name"] for column in inputs if "name" in column and column.get("required", True)]
    record = {"type": "object", "properties": columns, "required": needed}
    forms = {
        "dataframe_records": {"type": "array", "items": record},
        "dataframe_split": {
            "type": "object",
            "properties": {"columns": {"type": "array"}, "index": {"type": "array"}, "data": {"type": "array"}},
            "required": ["data"],
        },
        "instances": {"type": "array", "items": record if columns else ANYTHING},
        "inputs": ANYTHING,
    }
    params = json.loads(signature.get("params") or "[]")
    taken = {param["name"]: SCALARS.get(param.get("type") or param.get("dtype"), ANYTHING) for param in params}
    extra = {"params": {"type": "object", "properties": taken}} if taken else {}
    return {
        "oneOf": [
            {"type": "object", "properties": {form: schema, **extra}, "required": [form]}
            for form, schema in forms.items()
        ]
    }


def _column(column: dict[str, Any]) -> dict[str, Any]:
    if column.get("type") == "array":
        return {"type": "array", "items": _column(column.get("items") or {})}
    if column.get("type") == "object":
        return {"type": "object", "properties": {n: _column(c) for n, c in (column.get("properties") or {}).items()}}
    return SCALARS.get(column.get("type", ""), ANYTHING)
