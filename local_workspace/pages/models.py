"""The pages of serving endpoints, with a chat box, and of vector indexes, with a search box."""

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from local_workspace.errors import ApiError
from local_workspace.pages.session import Sessions, Viewer

ENDPOINTS = "/api/2.0/serving-endpoints"
SEARCH = "/api/2.0/vector-search"
CHAT, EMBEDDINGS = "llm/v1/chat", "llm/v1/embeddings"
TOKENS = 300


def add(api: APIRouter, sessions: Sessions, page: Callable[..., Response]) -> None:
    """Put the pages into `api`."""

    @api.get("/ui/endpoints")
    async def endpoints(request: Request) -> Response:
        viewer = sessions.viewer(request)
        return page("endpoints.html", endpoints=(await viewer.get(ENDPOINTS)).get("endpoints") or [])

    @api.get("/ui/endpoints/{name}")
    async def endpoint(request: Request, name: str) -> Response:
        viewer = sessions.viewer(request)
        found = await viewer.get(f"{ENDPOINTS}/{quote(name, safe='')}")
        return page("endpoint.html", endpoint=found, chat=found.get("task") == CHAT, said="", answer="", error="")

    @api.post("/ui/endpoints/{name}")
    async def chat(request: Request, name: str, said: Annotated[str, Form()] = "") -> Response:
        viewer = sessions.viewer(request)
        found = await viewer.get(f"{ENDPOINTS}/{quote(name, safe='')}")
        answer, error = "", ""
        body = {"messages": [{"role": "user", "content": said}], "max_tokens": TOKENS}
        try:
            told = await viewer.call("POST", f"/serving-endpoints/{quote(name, safe='')}/invocations", json=body)
            answer = told["choices"][0]["message"]["content"] or ""
        except ApiError as failed:
            error = failed.message
        return page("endpoint.html", endpoint=found, chat=True, said=said, answer=answer, error=error)

    @api.get("/ui/indexes")
    async def indexes(request: Request) -> Response:
        viewer = sessions.viewer(request)
        found = []
        for one in await viewer.every(f"{SEARCH}/endpoints", "endpoints"):
            found += await viewer.every(f"{SEARCH}/indexes", "vector_indexes", endpoint_name=one["name"])
        return page("indexes.html", indexes=found)

    @api.get("/ui/indexes/{name}")
    async def index(request: Request, name: str, text: str = "", endpoint: str = "") -> Response:
        viewer = sessions.viewer(request)
        found = await viewer.get(f"{SEARCH}/indexes/{quote(name, safe='')}")
        embedders = [
            e["name"] for e in (await viewer.get(ENDPOINTS)).get("endpoints") or [] if e.get("task") == EMBEDDINGS
        ]
        answer, error = None, ""
        if text:
            try:
                answer = await _search(viewer, found, text, endpoint)
            except ApiError as failed:
                error = failed.message
        values = {"index": found, "embedders": embedders, "endpoint": endpoint}
        return page("index.html", text=text, answer=answer, error=error, **values)


async def _search(viewer: Viewer, index: dict[str, Any], text: str, endpoint: str) -> dict[str, Any]:
    """The rows nearest to a text: embedded by the index itself, or by the endpoint that was chosen."""
    spec = index.get("delta_sync_index_spec") or index.get("direct_access_index_spec") or {}
    managed = spec.get("embedding_source_columns")
    body: dict[str, Any] = {"num_results": 10, "columns": [index["primary_key"]]}
    if managed and managed[0].get("embedding_model_endpoint_name"):
        body |= {"query_text": text, "columns": [index["primary_key"], managed[0]["name"]]}
    else:
        asked = {"input": [text]}
        told = await viewer.call("POST", f"/serving-endpoints/{quote(endpoint, safe='')}/invocations", json=asked)
        body["query_vector"] = told["data"][0]["embedding"]
    name = quote(index["name"], safe="")
    found = await viewer.call("POST", f"{SEARCH}/indexes/{name}/query", json=body)
    columns = [column["name"] for column in found["manifest"]["columns"]]
    return {"columns": columns, "rows": found["result"].get("data_array") or []}
