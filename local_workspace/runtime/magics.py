"""The magics of Databricks' notebooks: `%python %sql %md %sh %fs %run %pip %skip %restart_python`."""

import json
import re
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from local_workspace.runtime.cells import MAGIC, parse
from local_workspace.runtime.remote import fetched
from local_workspace.runtime.rest import RestError

if TYPE_CHECKING:
    from local_workspace.runtime.shell import Shell

LANGUAGES = ("python", "sql", "md", "md-sandbox", "sh", "fs", "skip", "scala", "r")
PARAMETER = re.compile(r"\$(\w+)=")
PLACEHOLDER = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)")


def as_ipython(source: str, language: str = "PYTHON") -> str:
    """A cell as IPython takes it: a language's magic rules the whole cell."""
    text = source.lstrip("\n")
    magic = MAGIC.match(text)
    if magic and magic[1] == "python":
        return text[magic.end() :].lstrip(" ")
    if magic and magic[1] in LANGUAGES:
        return "%%" + magic[1].partition("-")[0] + "\n" + text[magic.end() :].strip()
    if language == "PYTHON" or (magic and magic[1] in ("run", "pip", "restart_python")):
        return source
    return f"%%{language.lower()}\n{text}"


class Unsupported(Exception):
    """The cell needs something that is not here."""


class CellLeft(BaseException):
    """A notebook run by `%run` has ended the cell; its outputs say why."""


class Magics:
    """The magics of one shell."""

    def __init__(self, shell: "Shell"):
        self._shell = shell

    def sql(self, _line: str, cell: str) -> None:
        """Run the statements, show the last one's rows and keep them as `_sqldf`."""
        session, values = self._shell.spark.session(), self._shell.dbutils.widgets.getAll()
        frame = None
        for statement in statements(cell):
            used = {name: values[name] for name in PLACEHOLDER.findall(statement) if name in values}
            frame = session.sql(statement, args=used) if used else session.sql(statement)
        if frame is not None:
            self._shell.namespace["_sqldf"] = frame
            if frame.columns:
                self._shell.display(frame)

    def md(self, _line: str, cell: str) -> None:
        """Show Markdown."""
        self._shell.outputs.data({"text/markdown": cell, "text/plain": cell}, {})

    def sh(self, _line: str, cell: str) -> None:
        """Run a Bash script and show what it prints; with `-e`, its failure is the cell's."""
        strict = cell.startswith("-e")
        process = subprocess.Popen(  # noqa: S603 - that is what %sh is for
            ["bash", "-c", cell[2:] if strict else cell],  # noqa: S607
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        for line in process.stdout or ():
            print(line, end="")
        if process.wait() and strict:
            raise subprocess.CalledProcessError(process.returncode, "%sh -e")

    def fs(self, _line: str, cell: str) -> None:
        """Run a command of `dbutils.fs`."""
        name, *arguments = shlex.split(cell)
        self._shell.display(getattr(self._shell.dbutils.fs, name)(*arguments))

    def run(self, line: str, _cell: str | None = None) -> None:
        """Run another notebook's cells here, with `$name="value"` as its widgets."""
        path, *given = shlex.split(PARAMETER.sub(r"\1=", line))
        where = self._shell.context.absolute(path)
        content, language, jupyter = notebook(self._shell, where)
        for name, _, value in (argument.partition("=") for argument in given):
            self._shell.dbutils.widgets.text(name, value)
        for cell in parse(content, language, jupyter):
            if cell.kind == "code":
                ended = self._shell.ipython.run_cell(as_ipython(cell.source, cell.language))
                if not ended.success:
                    raise CellLeft

    def pip(self, line: str, _cell: str | None = None) -> None:
        """`%pip install`: into this run's own folder."""
        command, *requirements = shlex.split(line)
        if command != "install":
            raise Unsupported(f"local_workspace runs %pip install only, not %pip {command}")
        with tempfile.TemporaryDirectory() as folder:
            found = [fetched(self._shell, requirement, Path(folder)) for requirement in requirements]
            print(self._shell.packages.install(found))

    def skip(self, _line: str, _cell: str) -> None:
        """`%skip`: the cell is not run."""

    def restart_python(self, _line: str, _cell: str | None = None) -> None:
        """The same as `dbutils.library.restartPython()`."""
        self._shell.dbutils.library.restartPython()

    def other(self, _line: str, _cell: str) -> None:
        """A language there is no interpreter for."""
        raise Unsupported("local_workspace runs Python, SQL and shell cells; not Scala or R")


def register(shell: "Shell") -> None:
    """Give the shell the magics."""
    magics = Magics(shell)
    for name in ("sql", "md", "sh", "fs", "skip"):
        shell.ipython.register_magic_function(cast(Any, getattr(magics, name)), "cell", name)
    for name in ("scala", "r"):
        shell.ipython.register_magic_function(cast(Any, magics.other), "cell", name)
    for name in ("run", "pip", "restart_python"):
        shell.ipython.register_magic_function(getattr(magics, name), "line", name)


def statements(text: str) -> list[str]:
    """The statements of a SQL cell, split at semicolons outside of strings and comments."""
    if ";" not in text:
        return [text] if text.strip() else []
    from sqlglot.dialects import Databricks
    from sqlglot.tokens import TokenType

    found, start, filled = [], 0, False
    for token in Databricks().tokenize(text):
        if token.token_type != TokenType.SEMICOLON:
            filled = True
            continue
        if filled:
            found.append(text[start : token.start].strip())
        start, filled = token.end + 1, False
    return [*found, text[start:].strip()] if filled else found


def notebook(shell: "Shell", path: str) -> tuple[str, str, bool]:
    """A notebook's content, language and whether it is Jupyter's. Raises RestError."""
    status: dict[str, Any] = json.loads(shell.rest.get("/api/2.0/workspace/get-status", path=path))
    if status["object_type"] != "NOTEBOOK":
        raise RestError("INVALID_PARAMETER_VALUE", f"{path} is not a notebook")
    content = shell.rest.get("/api/2.0/workspace/export", path=path, format="AUTO", direct_download="true").decode()
    return content, status["language"], content.lstrip().startswith("{")
