"""What a cell did: its outputs as nbformat has them, and one typed result for those who want a single value."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TextIO

MAX_STREAM = 1 << 20
"""Characters of printed text kept per cell; the log has all of it."""
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
REDACTED = "[REDACTED]"


@dataclass(frozen=True)
class Table:
    """Rows that were displayed. `types` are Spark's, such as `string` or `decimal(10,2)`."""

    names: list[str]
    types: list[str]
    rows: list[list[Any]]
    truncated: bool = False


@dataclass(frozen=True)
class Failure:
    """How a cell failed."""

    name: str
    """The exception's class."""
    message: str
    trace: str
    """The traceback without colours."""

    @property
    def summary(self) -> str:
        """The line under a traceback."""
        return f"{self.name}: {self.message}" if self.message else self.name


@dataclass
class Result:
    """The end of one cell."""

    outputs: list[dict[str, Any]] = field(default_factory=list)
    """nbformat's outputs, in order."""
    tables: list[Table] = field(default_factory=list)
    error: Failure | None = None
    exit: str | None = None
    """What `dbutils.notebook.exit` was given, if it was called."""
    restart: bool = False
    """`dbutils.library.restartPython` was called: the process is to be replaced before the next cell."""

    @property
    def kind(self) -> Literal["error", "table", "image", "text"]:
        """What to show when only one thing can be shown."""
        if self.error:
            return "error"
        if self.tables:
            return "table"
        return "image" if self.image else "text"

    @property
    def text(self) -> str:
        """Everything printed and the plain form of everything shown."""
        parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in self.outputs]
        return "\n".join(part.rstrip("\n") for part in parts if part)

    @property
    def image(self) -> str | None:
        """The first picture, base64 of a PNG."""
        return next((o["data"]["image/png"] for o in self.outputs if "image/png" in o.get("data", {})), None)

    @property
    def html(self) -> str | None:
        """The first HTML shown."""
        return next((o["data"]["text/html"] for o in self.outputs if "text/html" in o.get("data", {})), None)


class Redactor:
    """Secret values that have been handed out; none of them is shown again."""

    def __init__(self) -> None:
        self._values: list[str] = []

    def add(self, value: str) -> None:
        """Hide `value` from now on."""
        if value and value not in self._values:
            self._values = sorted([*self._values, value], key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text with every secret replaced."""
        for value in self._values:
            text = text.replace(value, REDACTED)
        return text


class Outputs:
    """Where the running cell's outputs go; `on_change` is called after each."""

    def __init__(self, redact: Redactor):
        self.redact = redact
        self.result = Result()
        self.on_change: Callable[[], None] = lambda: None

    def begin(self) -> Result:
        """Collect for a new cell."""
        self.result = Result()
        return self.result

    def stream(self, name: str, text: str) -> None:
        """Printed text."""
        outputs = self.result.outputs
        if not outputs or outputs[-1].get("name") != name:
            outputs.append({"output_type": "stream", "name": name, "text": ""})
        room = MAX_STREAM - len(outputs[-1]["text"])
        outputs[-1]["text"] += text[: max(room, 0)]
        self.on_change()

    def data(self, bundle: dict[str, Any], metadata: dict[str, Any], count: int | None = None) -> None:
        """A value shown, by MIME type; with `count` it is the cell's own result."""
        shown: dict[str, Any] = {"output_type": "display_data"}
        if count is not None:
            shown = {"output_type": "execute_result", "execution_count": count}
        clean = {mime: self.redact(value) if isinstance(value, str) else value for mime, value in bundle.items()}
        self.result.outputs.append(shown | {"data": clean, "metadata": metadata})
        self.on_change()

    def table(self, table: Table) -> None:
        """Rows shown; their HTML comes by `data`."""
        rows = [[self.redact(value) if isinstance(value, str) else value for value in row] for row in table.rows]
        self.result.tables.append(Table(table.names, table.types, rows, table.truncated))

    def failure(self, name: str, message: str, traceback: list[str]) -> None:
        """The exception that ended the cell."""
        lines = [self.redact(ANSI.sub("", line)) for line in traceback]
        failure = Failure(name, self.redact(message), "\n".join(lines))
        self.result.error = failure
        self.result.outputs.append(
            {"output_type": "error", "ename": name, "evalue": failure.message, "traceback": lines}
        )
        self.on_change()


class Stream(io.TextIOBase):
    """`sys.stdout` or `sys.stderr` of users' code: redacted into the outputs and the process's own stream."""

    encoding = "utf-8"

    def __init__(self, name: str, below: TextIO, outputs: Outputs):
        self._name = name
        self._below = below
        self._outputs = outputs

    def write(self, text: str) -> int:
        """Show text and write it to the log."""
        shown = self._outputs.redact(text)
        self._outputs.stream(self._name, shown)
        self._below.write(shown)
        self._below.flush()
        return len(text)

    def flush(self) -> None:
        """Everything is written at once."""

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The file descriptor below, for child processes."""
        return self._below.fileno()

    @property
    def buffer(self) -> Any:
        """The bytes below, for code that writes them itself."""
        return self._below.buffer
