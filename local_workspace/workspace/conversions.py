"""A notebook in another format than the one it was imported in: source, Jupyter, or a page to look at."""

import base64
import html
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from local_workspace.errors import BadRequest
from local_workspace.runtime.cells import COMMENT, Cell, parse

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font-family: sans-serif; max-width: 60em; margin: 2em auto }} pre {{ background: #f4f4f4; padding: 1em }}
</style></head><body><h1>{title}</h1>
{body}
{script}
</body></html>
"""


def marked(content: bytes, language: str) -> bytes:
    """A notebook's source with the first line that says that it is one."""
    marker = f"{COMMENT[language]} Databricks notebook source".encode()
    return content if content.startswith(marker) else marker + b"\n" + content


def cells_of(content: bytes, language: str, jupyter: bool) -> list[Cell]:
    """The cells of a stored notebook. Raises BadRequest when it cannot be read as one."""
    try:
        return parse(content.decode("utf-8-sig"), language, jupyter)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadRequest(f"the notebook cannot be converted: {error}") from None


def as_source(cells: Iterable[Cell], language: str) -> bytes:
    """Cells as a source file; those with a magic and Markdown go into comments."""
    comment = COMMENT[language]
    blocks = []
    for cell in cells:
        text = f"%md\n{cell.source}" if cell.kind == "markdown" else cell.source
        if text.lstrip().startswith("%"):
            text = "\n".join(f"{comment} MAGIC {line}".rstrip() for line in text.strip().split("\n"))
        blocks.append(text)
    return marked(f"\n\n{comment} COMMAND ----------\n\n".join(blocks).encode(), language)


def as_jupyter(cells: Iterable[Cell], language: str) -> bytes:
    """Cells as a Jupyter notebook without outputs."""
    made: list[dict[str, Any]] = [
        {"cell_type": cell.kind, "id": f"cell-{number}", "metadata": {}, "source": cell.source}
        | ({"execution_count": None, "outputs": []} if cell.kind == "code" else {})
        for number, cell in enumerate(cells)
    ]
    metadata = {"language_info": {"name": language.lower()}}
    return json.dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}).encode()


def as_html(name: str, cells: Iterable[Cell], language: str) -> bytes:
    """Cells as a page; the notebook itself is in it."""
    sources = [f"%md\n{cell.source}" if cell.kind == "markdown" else cell.source for cell in cells]
    body = "\n".join(f"<pre>{html.escape(source)}</pre>" for source in sources)
    script = model(name, language, [(source, None) for source in sources])
    return PAGE.format(title=html.escape(name), body=body, script=script).encode()


def model(name: str, language: str, commands: Iterable[tuple[str, str | None]]) -> str:
    """A notebook as a script of a page, where tools that read Databricks' exports look for it.

    A command is its source and, when it has run, what it showed as text.
    """
    shown = [
        {
            "version": "CommandV1",
            "position": float(number),
            "command": source,
            "results": None if output is None else {"type": "listResults", "data": [{"type": "ansi", "data": output}]},
        }
        for number, (source, output) in enumerate(commands, 1)
    ]
    notebook = {"version": "NotebookV1", "name": name, "language": language.lower(), "commands": shown}
    encoded = base64.b64encode(quote(json.dumps(notebook)).encode()).decode()
    return f"<script>var __DATABRICKS_NOTEBOOK_MODEL = '{encoded}';</script>"
