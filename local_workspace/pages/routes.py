"""The pages at the workspace's address, for people: what is there, found by looking."""

from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import FileResponse, Response
from fastapi.routing import APIRoute

from local_workspace.context import LocalWorkspace
from local_workspace.errors import ApiError
from local_workspace.pages import data, models, work
from local_workspace.pages.render import FOLDER, HEADERS, render
from local_workspace.pages.session import Sessions, SignIn
from local_workspace.parity import report

SECTIONS = (
    ("/ui/catalog", "Catalog", "catalogs, schemas, tables, volumes, models"),
    ("/ui/sql", "SQL", "run a statement"),
    ("/ui/endpoints", "Endpoints", "models that answer; talk to one"),
    ("/ui/indexes", "Vector search", "indexes; search one"),
    ("/ui/jobs", "Jobs", "jobs, their runs and logs"),
    ("/ui/apps", "Apps", "apps and their logs"),
    ("/ui/dashboards", "Dashboards", "Lakeview dashboards and alerts"),
    ("/ui/parity", "Parity", "what is real here, partial or refused"),
)


every_row = lru_cache(maxsize=1)(report.rows)
"""It takes most of a second, and the routes stay as they are."""


class PageRoute(APIRoute):
    """A route whose errors are pages too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, its errors rendered."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except SignIn as error:
                return error.response()
            except ApiError as error:
                code, message = error.error_code, error.message
                return render("error.html", status=error.status, sections=SECTIONS, code=code, message=message)

        return handled


def router(ws: LocalWorkspace) -> APIRouter:
    """The pages."""
    api = APIRouter(route_class=PageRoute, include_in_schema=False)
    sessions = Sessions(ws.auth)

    def page(template: str, **values: Any) -> Response:
        return render(template, sections=SECTIONS, **values)

    @api.get("/")
    async def overview(request: Request, token: str = "") -> Response:
        if token:
            return sessions.open(token)
        viewer = sessions.viewer(request)
        me = await viewer.get("/api/2.0/preview/scim/v2/Me")
        return page("overview.html", user=me["userName"], address=ws.address(), root=ws.config.root)

    @api.post("/ui/sign-in")
    async def sign_in(token: Annotated[str, Form()] = "") -> Response:
        return sessions.open(token.strip())

    @api.post("/ui/sign-out")
    async def sign_out(request: Request) -> Response:
        return sessions.close(request)

    @api.get("/ui/style.css")
    async def style() -> Response:
        return FileResponse(FOLDER / "style.css", headers=HEADERS)

    @api.get("/ui/parity")
    def parity(request: Request, state: str = "", service: str = "") -> Response:
        sessions.viewer(request)
        rows = every_row(request.app)
        chosen = [row for row in rows if state in ("", row.state) and service in ("", row.service)]
        services = list(dict.fromkeys(row.service for row in rows if row.claims))
        return page("parity.html", rows=chosen, services=services, state=state, service=service)

    data.add(api, sessions, page, ws)
    models.add(api, sessions, page)
    work.add(api, sessions, page, ws)
    return api
