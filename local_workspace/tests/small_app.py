"""A small app and how it gets into the workspace, for the tests of apps."""

import textwrap
import time
from collections.abc import Callable
from typing import Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.apps import App, AppDeployment
from databricks.sdk.service.workspace import ImportFormat

HOME = "/Workspace/Users/developer@local.workspace"
SERVER = textwrap.dedent("""
    import json, os, sys
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    VERSION = 1

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if self.path == "/crash":
                os._exit(3)
            facts = {"env": dict(os.environ), "path": self.path, "argv": sys.argv, "pid": os.getpid(),
                     "cwd": os.getcwd(), "version": VERSION}
            body = json.dumps(facts).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    print("serving version", VERSION, flush=True)
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["DATABRICKS_APP_PORT"])), Handler).serve_forever()
""")


def upload(client: WorkspaceClient, name: str, **files: str) -> str:
    """Put an app's source into the workspace; `app_yaml` becomes app.yaml."""
    folder = f"{HOME}/{name}"
    client.workspace.mkdirs(folder)
    for file, content in files.items():
        path = f"{folder}/{file.replace('_', '.')}"
        client.workspace.upload(path, content.encode(), format=ImportFormat.RAW, overwrite=True)
    return folder


def deploy(client: WorkspaceClient, name: str, **files: str) -> App:
    """Create an app if need be, deploy it and wait until it runs."""
    if name not in [app.name for app in client.apps.list()]:
        client.apps.create_and_wait(App(name))
    source = upload(client, name, **({"app_py": SERVER} | files))
    client.apps.deploy_and_wait(name, AppDeployment(source_code_path=source))
    return client.apps.get(name)


def eventually(check: Callable[[], Any], seconds: float = 30) -> Any:
    """The first truthy answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := check():
            return answer
        time.sleep(0.05)
    raise AssertionError("it did not happen")
