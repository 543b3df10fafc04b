"""Unity Catalog's functions as the SDK speaks them; SQL statements that call them get their bodies put in."""

from typing import Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from local_workspace.context import LocalWorkspace
from local_workspace.errors import BadRequest, NotImplementedHere
from local_workspace.parity import differs

PREFIX = "/api/2.1/unity-catalog/functions"


class Parameter(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str
    type_text: str
    position: int = 0
    parameter_default: str | None = None
    comment: str | None = None


class Parameters(BaseModel):
    parameters: list[Parameter] = []


class Function(BaseModel):
    """The SDK's `CreateFunction`."""

    model_config = ConfigDict(extra="allow")

    catalog_name: str
    schema_name: str
    name: str
    input_params: Parameters = Parameters()
    return_params: Parameters | None = None
    data_type: str = "STRING"
    full_data_type: str
    routine_body: Literal["SQL", "EXTERNAL"]
    routine_definition: str = Field(min_length=1)
    external_language: str | None = None
    comment: str | None = None
    properties: str | None = None


class NewFunction(BaseModel):
    function_info: Function


def router(ws: LocalWorkspace) -> APIRouter:
    """Create and list; get, update and delete are those of every securable."""
    api = APIRouter()
    store = ws.catalog

    def described(record: dict[str, Any]) -> dict[str, Any]:
        catalog_name, schema_name, _ = record["full_name"].split(".")
        shown = {name: value for name, value in record.items() if name != "id"}
        return shown | {"catalog_name": catalog_name, "schema_name": schema_name, "function_id": record["id"]}

    @api.post(PREFIX)
    @differs("A function's body is read when it is first called, not when it is created here.")
    def create_function(body: NewFunction, request: Request) -> dict:
        function = body.function_info
        language = (function.external_language or "SQL").upper()
        if language not in ("SQL", "PYTHON"):
            raise NotImplementedHere(f"local_workspace has functions in SQL and Python, not in {language}")
        if (language == "PYTHON") != (function.routine_body == "EXTERNAL"):
            raise BadRequest("routine_body must be EXTERNAL with external_language PYTHON, and SQL without.")
        facts = function.model_dump(exclude={"catalog_name", "schema_name", "name"}, exclude_none=True)
        full_name = f"{function.catalog_name}.{function.schema_name}.{function.name}"
        return described(store.create("function", full_name, request.state.principal.name, **facts))

    @api.get(PREFIX)
    def list_functions(
        catalog_name: str, schema_name: str, max_results: int = Query(0, ge=0), page_token: str = ""
    ) -> dict:
        limit = max_results + 1 if max_results else -1
        found = store.children("function", f"{catalog_name}.{schema_name}", after=page_token, limit=limit)
        shown = found[:max_results] if max_results else found
        answer: dict[str, Any] = {"functions": [described(record) for record in shown]}
        if len(shown) < len(found):
            answer["next_page_token"] = shown[-1]["full_name"]
        return answer

    return api
