"""The executed copy of a notebook: a Jupyter file that is whole at any moment, written as the run goes."""

import json
import time
from pathlib import Path
from typing import Any

from local_workspace.runtime.cells import Cell
from local_workspace.runtime.outputs import Result

PAUSE_SECONDS = 0.5
"""A running cell's outputs are written at most this often."""
NOTEBOOK = "notebook.ipynb"


class Record:
    """A notebook with what its cells did so far."""

    def __init__(self, file: Path, cells: list[Cell]):
        self._file = file
        self._written = 0.0
        self._cells: list[dict[str, Any]] = [
            {"cell_type": cell.kind, "id": f"cell-{number}", "metadata": {}, "source": cell.source}
            | ({"execution_count": None, "outputs": []} if cell.kind == "code" else {})
            for number, cell in enumerate(cells)
        ]

    @classmethod
    def resumed(cls, file: Path, cells: list[Cell]) -> "Record":
        """The record that the process before a restart has written."""
        record = cls(file, cells)
        record._cells = json.loads(file.read_text())["cells"]
        return record

    def update(self, number: int, result: Result, count: int, final: bool) -> None:
        """Take a cell's outputs; they are on disk at once when `final`, soon otherwise."""
        self._cells[number]["execution_count"] = count
        self._cells[number]["outputs"] = result.outputs
        if final or time.monotonic() - self._written > PAUSE_SECONDS:
            self.write()

    def write(self) -> None:
        """Bring the file up to date."""
        notebook = {
            "cells": self._cells,
            "metadata": {
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                "language_info": {"name": "python"},
            },
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        staged = self._file.with_suffix(".new")
        staged.write_text(json.dumps(notebook, ensure_ascii=False))
        staged.replace(self._file)
        self._written = time.monotonic()
