"""One Python for one user's code: cells go in, typed results come out, names stay."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from local_workspace.runtime import dbruntime, local_paths, magics
from local_workspace.runtime.context import Context
from local_workspace.runtime.dbutils import DbUtils
from local_workspace.runtime.display import Display
from local_workspace.runtime.notebook import NotebookExit
from local_workspace.runtime.outputs import Outputs, Redactor, Result, Stream
from local_workspace.runtime.packages import Packages
from local_workspace.runtime.rest import Rest
from local_workspace.runtime.spark import AbsentContext, LazySession


class RestartPython(BaseException):
    """`dbutils.library.restartPython` was called."""


class _Publisher(DisplayPublisher):
    outputs: Outputs

    def publish(self, data: Any, metadata: Any = None, source: Any = None, **_options: Any) -> None:
        self.outputs.data(dict(data), metadata or {})

    def clear_output(self, wait: bool = False) -> None:
        self.outputs.result.outputs.clear()


class _Hook(DisplayHook):
    outputs: Outputs

    def write_output_prompt(self) -> None:
        """Nothing is prompted."""

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        self.outputs.data(dict(format_dict), md_dict or {}, self.prompt_count)

    def finish_displayhook(self) -> None:
        """Nothing to finish."""


class _InteractiveShell(InteractiveShell):
    display_pub_class = _Publisher
    displayhook_class = _Hook
    display_pub: _Publisher
    displayhook: _Hook
    outputs: Outputs

    def _showtraceback(self, etype: type, evalue: BaseException, stb: Any) -> None:
        lines = stb if isinstance(stb, list) else str(stb).splitlines()
        self.outputs.failure(etype.__name__, str(evalue), lines)

    def enable_gui(self, gui: Any = None) -> None:
        """There is no screen."""


class Shell:
    """The namespace of a notebook with `spark`, `dbutils`, `display`, `displayHTML`, `sql`, `table` and `udf`.

    Build one per process: it takes over `sys.stdout`, `sys.stderr` and IPython's singleton. The clean seam for
    whoever runs cells (jobs' tasks, the Command Execution API): `run` takes one cell and returns its `Result`, whose
    `kind` is `text`, `table`, `image` or `error`.
    """

    def __init__(self, context: Context, folder: Path, parameters: Mapping[str, str] | None = None):
        """`folder` is this process's own: packages installed by `%pip` and the values of the task go there."""
        self.context = context
        self.outputs = Outputs(Redactor())
        self.outputs.redact.add(context.token)
        self.rest = Rest(context)
        self.packages = Packages(folder / "packages")
        self.spark = LazySession()
        self.ipython = self._interactive()
        sys.stdout = Stream("stdout", sys.__stdout__ or sys.stdout, self.outputs)
        sys.stderr = Stream("stderr", sys.__stderr__ or sys.stderr, self.outputs)
        self.display = Display(self.outputs)
        self.dbutils = DbUtils(self, folder, parameters if parameters is not None else context.parameters)
        self.namespace: dict[str, Any] = self.ipython.user_ns
        self.namespace.update(
            spark=self.spark,
            dbutils=self.dbutils,
            display=self.display,
            displayHTML=self.display.html,
            sql=self.spark.sql_of,
            table=self.spark.table_of,
            udf=self.spark.udf_of,
            sc=AbsentContext("sc"),
            sqlContext=AbsentContext("sqlContext"),
            getArgument=self.dbutils.widgets.getArgument,
        )
        magics.register(self)
        local_paths.install()
        dbruntime.install(self)

    def run(self, source: str, language: str = "PYTHON") -> Result:
        """Run one cell to its end. Never raises for what users' code does."""
        result = self.outputs.begin()
        if "pyspark" in source or "pyspark" in sys.modules:
            with contextlib.suppress(Exception):  # the cell itself will say what is wrong
                self.spark.session()  # functions of pyspark look for a session that is there
        self.ipython.run_cell(magics.as_ipython(source, language), store_history=True)
        return result

    def call(self, function: Callable[[], Any]) -> Result:
        """Run `function` as if it were a cell: for scripts and entry points, whose source is elsewhere."""
        self.namespace["__local_workspace_call__"] = function
        return self.run("__local_workspace_call__()")

    def close(self) -> None:
        """End the Spark session, without which the process would hang at its end."""
        self.spark.stop()

    def _interactive(self) -> _InteractiveShell:
        options = Config()
        options.HistoryManager.enabled = False
        options.InteractiveShell.colors = "nocolor"
        options.InteractiveShell.xmode = "Context"
        os.environ.setdefault("IPYTHONDIR", tempfile.mkdtemp(prefix="ipython-"))
        os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        shell = _InteractiveShell.instance(config=options)
        shell.outputs = shell.display_pub.outputs = shell.displayhook.outputs = self.outputs
        shell.set_custom_exc((NotebookExit, RestartPython, magics.CellLeft), self._ended)
        return shell

    def _ended(
        self, _shell: Any, _type: type, value: BaseException, _traceback: TracebackType, tb_offset: int | None = None
    ) -> None:
        """A cell was left on purpose."""
        if isinstance(value, NotebookExit):
            self.outputs.result.exit = value.value
            self.outputs.stream("stdout", f"Notebook exited: {value.value}\n")
        elif isinstance(value, RestartPython):
            self.outputs.result.restart = True
