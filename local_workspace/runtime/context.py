"""Who runs users' code and where: the facts a process is given about its workspace, run and notebook."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Context:
    """What `dbutils` and `spark` need to know."""

    host: str
    """The workspace's address, such as `http://127.0.0.1:8000`."""
    token: str
    user: str = ""
    workspace_id: str = ""
    notebook_path: str | None = None
    """In the workspace tree, without `/Workspace`; `%run` and `dbutils.notebook.run` start from its folder."""
    job_id: int | None = None
    run_id: int | None = None
    """The job's run; `task_run_id` is the run of this task within it."""
    task_run_id: int | None = None
    task_key: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What widgets are fed with."""
    task_values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Task key → key → value, of the tasks that have ended."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ, **facts: Any) -> "Context":
        """The context of this process; `facts` are the other fields. Raises KeyError for a missing variable."""
        return cls(host=environ["DATABRICKS_HOST"].rstrip("/"), token=environ["DATABRICKS_TOKEN"], **facts)

    def absolute(self, path: str) -> str:
        """A notebook's path seen from this one's folder. Raises ValueError for a relative path without a notebook."""
        path = path.removeprefix("/Workspace") if path.startswith("/Workspace/") else path
        if path.startswith("/"):
            return os.path.normpath(path)
        if self.notebook_path is None:
            raise ValueError(f"{path!r} is relative, but no notebook is running: use an absolute path")
        return os.path.normpath(f"{self.notebook_path.rpartition('/')[0]}/{path}")
