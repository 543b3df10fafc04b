"""The module `dbruntime`, where genuine clients look for the notebook they run in."""

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from local_workspace.runtime.shell import Shell

NAMES = ("display", "displayHTML", "dbutils", "table", "sql", "udf", "getArgument", "spark", "sc", "sqlContext")


def install(shell: "Shell") -> None:
    """Make `from databricks.sdk.runtime import *` give the names of this notebook, also inside imported modules."""
    given = {name: shell.namespace[name] for name in NAMES}

    class UserNamespaceInitializer:
        """Gives the namespace's names, as databricks-sdk and MLflow ask for them."""

        @classmethod
        def getOrCreate(cls) -> "UserNamespaceInitializer":
            return cls()

        def get_namespace_globals(self) -> dict[str, Any]:
            return dict(given)

    context = shell.context
    facts = SimpleNamespace(
        apiUrl=context.host,
        apiToken=context.token,
        workspaceUrl=context.host.partition("://")[2],
        browserHostName=context.host.partition("://")[2],
        workspaceId=context.workspace_id,
        userName=context.user,
        notebookPath=context.notebook_path,
        notebookId=None,
        jobId=None if context.job_id is None else str(context.job_id),
        idInJob=None if context.task_run_id is None else str(context.task_run_id),
        jobGroupId=None,
        jobType=None if context.job_id is None else "NORMAL",
        jobTaskType=None,
        isInJob=context.job_id is not None,
        isInCluster=False,
        isInNotebook=context.notebook_path is not None,
        replId=None,
        clusterId=None,
        aclPathOfAclRoot=None,
        commandRunId=None,
        mlflowGitRepoUrl=None,
        mlflowGitRepoReference=None,
        mlflowGitRepoReferenceType=None,
        mlflowGitRepoCommit=None,
        mlflowGitRepoProvider=None,
        mlflowGitRelativePath=None,
        mlflowGitStatus=None,
    )
    root, repl = ModuleType("dbruntime"), ModuleType("dbruntime.databricks_repl_context")
    root.UserNamespaceInitializer = UserNamespaceInitializer  # type: ignore[attr-defined]
    root.databricks_repl_context = repl  # type: ignore[attr-defined]
    root.__path__ = []
    repl.get_context = lambda: facts  # type: ignore[attr-defined]
    sys.modules["dbruntime"], sys.modules["dbruntime.databricks_repl_context"] = root, repl
