"""Apps with the genuine SDK: real processes behind their stable address."""

import textwrap

import httpx
from databricks.sdk.service.apps import App, AppDeployment, ApplicationState, ComputeState
from databricks.sdk.service.workspace import ImportFormat

SERVER = textwrap.dedent("""
    import json, os, sys
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = json.dumps({"headers": dict(self.headers), "env": dict(os.environ), "path": self.path,
                               "argv": sys.argv, "pid": os.getpid(), "cwd": os.getcwd()}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    ThreadingHTTPServer(("127.0.0.1", int(os.environ["DATABRICKS_APP_PORT"])), Handler).serve_forever()
""")


def upload(client, folder: str, files: dict[str, str]) -> str:
    """Put an app's source into the workspace."""
    client.workspace.mkdirs(folder)
    for name, content in files.items():
        client.workspace.upload(f"{folder}/{name}", content.encode(), format=ImportFormat.RAW, overwrite=True)
    return folder


def test_an_app_is_created_deployed_stopped_and_started(workspace):
    client = workspace.client
    app = client.apps.create_and_wait(App("first"))
    assert app.compute_status.state == ComputeState.ACTIVE
    assert app.app_status.state == ApplicationState.UNAVAILABLE
    source = upload(client, "/Workspace/Users/developer@local.workspace/first", {"app.py": SERVER})
    client.apps.deploy_and_wait("first", AppDeployment(source_code_path=source))
    app = client.apps.get("first")
    assert app.app_status.state == ApplicationState.RUNNING
    seen = httpx.get(f"{app.url}/hello?x=1").json()
    assert seen["path"] == "/hello?x=1"
