"""The HTTP server: the services' routes, one after the other, behind the token check."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware import Middleware

from local_workspace import errors
from local_workspace.alerts import routes as alerts
from local_workspace.apps import routes as apps
from local_workspace.auth import RequireToken
from local_workspace.bodies import MAX_BYTES, WellFormed
from local_workspace.compute import routes as compute
from local_workspace.context import LocalWorkspace
from local_workspace.dashboards import routes as dashboards
from local_workspace.dbfs import routes as dbfs
from local_workspace.faults import routes as faults
from local_workspace.faults.middleware import InjectFaults
from local_workspace.files import routes as files
from local_workspace.identity import routes as identity
from local_workspace.jobs import routes as jobs
from local_workspace.mlflow import routes as mlflow
from local_workspace.models import routes as models
from local_workspace.pages import routes as pages
from local_workspace.parity.record import CALLS, RecordCalls
from local_workspace.permissions import routes as permissions
from local_workspace.prompts import routes as prompts
from local_workspace.queries import routes as queries
from local_workspace.secrets import routes as secrets
from local_workspace.serving import routes as serving
from local_workspace.sql import routes as sql
from local_workspace.unity_catalog import routes as unity_catalog
from local_workspace.vector_search import routes as vector_search
from local_workspace.warehouses import routes as warehouses
from local_workspace.workspace import routes as workspace
from local_workspace.zerobus import routes as zerobus

SERVICES = [
    files,
    sql,
    serving,
    vector_search,
    zerobus,
    alerts,
    dashboards,
    pages,
    identity,
    unity_catalog,
    warehouses,
    queries,
    dbfs,
    workspace,
    secrets,
    compute,
    permissions,
    apps,
    faults,
    mlflow,
    models,
    prompts,
    jobs,
]
"""Their routes are tried in this order for each request: what is called most comes first."""

TAKE_LONG_BODIES = (files, dbfs, workspace, mlflow, models, serving, vector_search, zerobus)
"""They have limits of their own, or write what comes to the disk as it comes."""


def create_app(ws: LocalWorkspace) -> FastAPI:
    """The workspace's REST API. What no service has is answered 501 with its name."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await ws.start()
        yield
        await ws.stop()

    middleware = [
        Middleware(InjectFaults, faults=ws.faults, connections=ws.connections),
        Middleware(RequireToken, auth=ws.auth),
        Middleware(WellFormed),
    ]
    if log := os.environ.get(CALLS):
        middleware.insert(0, Middleware(RecordCalls, log=Path(log)))
    app = FastAPI(
        title="local_workspace",
        lifespan=lifespan,
        openapi_url=None,
        redirect_slashes=False,
        middleware=middleware,
    )
    errors.install(app)
    for service in SERVICES:
        app.include_router(service.router(ws), max_body_size=None if service in TAKE_LONG_BODIES else MAX_BYTES)
    return app
