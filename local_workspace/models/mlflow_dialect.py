"""How MLflow's client speaks to Unity Catalog: its tags, pages and error codes."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from local_workspace.errors import ApiError, BadRequest

API = "/api/2.0/mlflow/unity-catalog"
PAGE = 100
MAX_PAGE = 1000


class MlflowRoute(APIRoute):
    """Answers errors with the codes that MLflow's client decides by, whatever kind of securable they name."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except ApiError as error:
                for ending in ("_DOES_NOT_EXIST", "_ALREADY_EXISTS"):
                    if error.error_code.endswith(ending):
                        error.error_code = f"RESOURCE{ending}"
                raise

        return handle


class Tag(BaseModel):
    key: str
    value: str = ""


def tags_of(given: list[Tag]) -> dict[str, str]:
    """Tags by their keys."""
    return {tag.key: tag.value for tag in given}


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """Tags as MLflow lists them."""
    return [{"key": key, "value": value} for key, value in tags.items()]


def page_size(wanted: int | None) -> int:
    """How many results one page has; none wanted means the usual number. Raises BadRequest."""
    if wanted is not None and wanted < 0:
        raise BadRequest("max_results must not be negative")
    return min(wanted or PAGE, MAX_PAGE)


def page_before(token: str | None) -> int | None:
    """The version number that a page token of a list of versions stands for. Raises BadRequest."""
    if not token:
        return None
    if not token.isdecimal():
        raise BadRequest("page_token is not one this search gave")
    return int(token)


def paged(what: str, found: list[dict[str, Any]], size: int, tokens: list[str]) -> dict[str, Any]:
    """A page of results, of which one more than `size` were looked for, with the token of the next."""
    return {what: found[:size]} | ({"next_page_token": tokens[size - 1]} if len(found) > size else {})
