"""`display` and `displayHTML`."""

import html
import json
from collections.abc import Iterable
from typing import Any

from local_workspace.runtime.outputs import Outputs, Table

MAX_ROWS = 10_000
"""Rows of a table that `display` fetches."""
HTML_ROWS = 1_000


class Display:
    """`display(x)`: Spark and pandas data and lists of rows as tables, everything else as IPython shows it."""

    def __init__(self, outputs: Outputs):
        self._outputs = outputs

    def __call__(self, value: Any = None, *args: Any, **kwargs: Any) -> None:
        table = as_table(value)
        if table is not None:
            self.table(table)
        elif value is not None:
            from IPython.display import display

            display(value, *args, **kwargs)

    def html(self, source: str) -> None:
        """Show HTML."""
        self._outputs.data({"text/html": source, "text/plain": "<HTML>"}, {})

    def table(self, table: Table) -> None:
        """Show rows."""
        self._outputs.table(table)
        self._outputs.data({"text/html": as_html(table), "text/plain": as_text(table)}, {})


def as_table(value: Any) -> Table | None:
    """The rows of a Spark or pandas DataFrame or of a list of rows; None for anything else."""
    kind = type(value)
    if kind.__module__.startswith("pyspark.sql") and kind.__name__ == "DataFrame":
        rows = value.limit(MAX_ROWS + 1).collect()
        names = [field.name for field in value.schema.fields]
        types = [field.dataType.simpleString() for field in value.schema.fields]
        return _table(names, types, rows)
    if kind.__module__.startswith("pandas") and kind.__name__ == "DataFrame":
        names = [str(name) for name in value.columns]
        types = [str(dtype) for dtype in value.dtypes]
        return _table(names, types, value.head(MAX_ROWS + 1).itertuples(index=False))
    if isinstance(value, list) and value and all(isinstance(row, tuple) and hasattr(row, "_fields") for row in value):
        return _table(list(value[0]._fields), [type(item).__name__ for item in value[0]], value)
    return None


def _table(names: list[str], types: list[str], rows: Iterable[Any]) -> Table:
    plain = [[_plain(value) for value in row] for row in rows]
    return Table(names, types, plain[:MAX_ROWS], truncated=len(plain) > MAX_ROWS)


def _plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if hasattr(value, "asDict"):
        return _plain(value.asDict())
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def as_html(table: Table) -> str:
    """The first rows as an HTML table."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.names)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_shown(value))}</td>" for value in row) + "</tr>"
        for row in table.rows[:HTML_ROWS]
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def as_text(table: Table, limit: int = 20) -> str:
    """The first rows, in columns."""
    rows = [table.names, *([_shown(value) for value in row] for row in table.rows[:limit])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.names))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    more = len(table.rows) - limit
    return "\n".join(lines + ([f"… {more} more rows"] if more > 0 else []))
