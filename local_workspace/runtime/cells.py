"""A notebook's cells, from its source format (Python or SQL) or from Jupyter's."""

import json
import re
from dataclasses import dataclass

COMMENT = {"PYTHON": "#", "SQL": "--", "SCALA": "//", "R": "#"}
MAGIC = re.compile(r"%(\w[\w-]*)")


@dataclass(frozen=True)
class Cell:
    """One cell as its author sees it: a magic, if any, is its first line."""

    source: str
    language: str = "PYTHON"
    """The notebook's own; a magic in the source goes before it."""
    kind: str = "code"
    """`code` or `markdown`."""


def parse(content: str, language: str, jupyter: bool) -> list[Cell]:
    """The cells of a notebook. Raises ValueError when it is not one."""
    return _jupyter(content, language) if jupyter else _source(content, language)


def _source(content: str, language: str) -> list[Cell]:
    comment = COMMENT[language]
    content = content.replace("\r\n", "\n").removeprefix("\ufeff")
    content = content.removeprefix(f"{comment} Databricks notebook source")
    blocks = re.split(rf"^{comment} COMMAND -+[ \t]*$", content, flags=re.MULTILINE)
    cells = []
    for block in blocks:
        lines = [line for line in block.strip("\n").split("\n") if not line.startswith(f"{comment} DBTITLE ")]
        source = "\n".join(_uncommented(line, comment) for line in lines).strip("\n")
        if source.strip():
            cells.append(_cell(source, language))
    return cells


def _uncommented(line: str, comment: str) -> str:
    marker = f"{comment} MAGIC"
    return line[len(marker) :].removeprefix(" ") if line.startswith(marker) else line


def _cell(source: str, language: str) -> Cell:
    if (magic := MAGIC.match(source)) and magic[1] in ("md", "md-sandbox"):
        return Cell(source[magic.end() :].strip(), language, "markdown")
    return Cell(source, language)


def _jupyter(content: str, language: str) -> list[Cell]:
    notebook = json.loads(content)
    cells = []
    for cell in notebook["cells"]:
        source = cell.get("source", "")
        source = source if isinstance(source, str) else "".join(source)
        if not source.strip():
            continue
        if cell.get("cell_type") == "markdown":
            cells.append(Cell(source, language, "markdown"))
        elif cell.get("cell_type") == "code":
            cells.append(_cell(source, language))
    return cells
