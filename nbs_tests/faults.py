"""Faults on purpose in a running local workspace."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from nbs_tests.processes import Workspace

PROMPT_REGISTRY = "/api/2.0/mlflow/unity-catalog/prompts*"
FILES = "/api/2.0/fs/*"


@contextmanager
def fault(workspace: Workspace, path: str, **rule: Any) -> Iterator[None]:
    """Requests to `path` (a glob) go wrong until the block ends, such as with `status=503` or `drop="response"`."""
    root = Path(workspace.process.args[-1])
    token = json.loads((root / "identity.json").read_text())["admin_token"]
    with httpx.Client(base_url=workspace.host, headers={"Authorization": f"Bearer {token}"}) as admin:
        made = admin.post("/local/faults", json={"path": path} | rule).raise_for_status().json()
        try:
            yield
        finally:
            admin.delete(f"/local/faults/{made['id']}").raise_for_status()
