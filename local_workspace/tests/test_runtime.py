"""The inside of a process that runs users' code: cells, magics, outputs, and the record of a notebook."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from local_workspace.runtime.cells import parse
from local_workspace.runtime.magics import as_ipython, statements
from local_workspace.runtime.outputs import Redactor
from local_workspace.runtime.widgets import InputWidgetNotDefinedError, Widgets


def run(folder: Path, *cells: str, **fields: Any) -> tuple[dict[str, Any], list[Any], str]:
    """Run a notebook with these cells: its result, its cells with outputs, and what was printed."""
    source = folder / "source.py"
    source.write_text("# Databricks notebook source\n" + "\n# COMMAND ----------\n".join(cells))
    context = {"notebook_path": "/Users/me/nb", "job_id": 1, "run_id": 2, "task_run_id": 3} | fields
    (folder / "task.json").write_text(json.dumps({"kind": "notebook", "source": str(source), "context": context}))
    ended = subprocess.run(
        [sys.executable, "-m", "local_workspace.runtime.task", str(folder)],
        env=os.environ | {"DATABRICKS_HOST": "http://127.0.0.1:9", "DATABRICKS_TOKEN": "dapi-of-the-test"},
        capture_output=True,
        text=True,
        check=False,
    )
    record = nbformat.read(folder / "notebook.ipynb", 4)
    nbformat.validate(record)
    return json.loads((folder / "result.json").read_text()), record.cells, ended.stdout


def test_a_source_notebook_has_the_cells_its_author_sees():
    source = """# Databricks notebook source
# MAGIC %md
# MAGIC # Title

# COMMAND ----------

# DBTITLE 1,Load
x = 1  # MAGIC is a word here

# COMMAND ----------

# MAGIC %sql
# MAGIC SELECT ':x'
# MAGIC
# MAGIC -- end
"""
    cells = parse(source.replace("\n", "\r\n"), "PYTHON", jupyter=False)
    assert [(cell.kind, cell.source) for cell in cells] == [
        ("markdown", "# Title"),
        ("code", "x = 1  # MAGIC is a word here"),
        ("code", "%sql\nSELECT ':x'\n\n-- end"),
    ]


def test_sql_and_jupyter_notebooks_are_read_too():
    sql = "-- Databricks notebook source\nSELECT 1\n-- COMMAND ----------\n-- MAGIC %python\n-- MAGIC x = 1\n"
    assert [as_ipython(c.source, c.language) for c in parse(sql, "SQL", jupyter=False)] == [
        "%%sql\nSELECT 1",
        "\nx = 1",
    ]
    cells = [
        {"cell_type": "code", "source": ["x = 1\n", "x"]},
        {"cell_type": "markdown", "source": "# T"},
        {"cell_type": "code", "source": "%sql select 1"},
        {"cell_type": "raw", "source": "raw"},
    ]
    read = parse(json.dumps({"cells": cells}), "PYTHON", jupyter=True)
    assert [(cell.kind, cell.source) for cell in read] == [
        ("code", "x = 1\nx"),
        ("markdown", "# T"),
        ("code", "%sql select 1"),
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1", "x = 1"),
        ("%python\nx = 1", "\nx = 1"),
        ("%sql select 1", "%%sql\nselect 1"),
        ("%md-sandbox\n# T", "%%md\n# T"),
        ("%pip install x", "%pip install x"),
        ("%timeit 1", "%timeit 1"),
        ("%%sql\nselect 1", "%%sql\nselect 1"),
    ],
)
def test_a_magic_rules_its_cell(source: str, expected: str):
    assert as_ipython(source) == expected


def test_statements_end_at_semicolons_that_are_no_text():
    assert statements("select ';' as a; -- one; two\nselect `b;c` from t;\n") == [
        "select ';' as a",
        "-- one; two\nselect `b;c` from t",
    ]
    assert statements("select 1") == ["select 1"]
    assert statements(" ;; ") == []
    assert statements("select 1;\n-- the end") == ["select 1"]


def test_widgets_give_parameters_before_defaults():
    widgets = Widgets({"day": "Monday", "extra": "1"})
    widgets.text("day", "Sunday")
    widgets.dropdown("size", "S", ["S", "L"])
    widgets.multiselect("tags", ["a", "b"], ["a", "b", "c"])
    widgets.combobox("free", "x", [])
    assert widgets.getAll() == {"day": "Monday", "extra": "1", "size": "S", "tags": "a,b", "free": "x"}
    assert widgets.getArgument("none", "given") == "given"
    with pytest.raises(ValueError, match="not among its choices"):
        widgets.dropdown("bad", "M", ["S", "L"])
    widgets.remove("size")
    with pytest.raises(InputWidgetNotDefinedError, match="No input widget named size"):
        widgets.get("size")
    widgets.removeAll()
    assert widgets.getAll() == {}


def test_longer_secrets_are_hidden_before_those_within_them():
    redact = Redactor()
    for value in ("key", "", "key-and-more"):
        redact.add(value)
    assert redact("a key-and-more, a key") == "a [REDACTED], a [REDACTED]"


def test_a_notebook_leaves_a_record_of_everything_it_shows(tmp_path: Path):
    result, cells, printed = run(
        tmp_path,
        "# MAGIC %md\n# MAGIC # Title",
        "import os\nprint('token', os.environ['DATABRICKS_TOKEN'])\n1 + 1",
        "%sh echo from $0",
        "import pandas as pd\ndisplay(pd.DataFrame({'a': [1, None]}))",
        "displayHTML('<b>x</b>')",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
        "from databricks.sdk.runtime import *\nprint(dbutils.notebook.getContext().tags().get('jobId').get())",
        "import asyncio\nawait asyncio.sleep(0)\ndef leave(): dbutils.notebook.exit('bye')",
        "try: leave()\nexcept Exception: print('caught')",
        "print('never')",
    )
    assert result == {
        "error": None,
        "trace": None,
        "code": "SUCCESS",
        "result": "bye",
        "truncated": False,
        "sql": None,
        "rows": None,
    }
    assert cells[0].cell_type == "markdown"
    assert cells[1].outputs[0].text == "token [REDACTED]\n"
    assert cells[1].outputs[1].data == {"text/plain": "2"}
    assert cells[2].outputs[0].text == "from bash\n"
    assert "<th>a</th>" in cells[3].outputs[0].data["text/html"]
    assert cells[4].outputs[0].data["text/html"] == "<b>x</b>"
    assert cells[5].outputs[0].data["image/png"].startswith("iVBOR")
    assert cells[6].outputs[0].text == "1\n"
    assert cells[9].outputs == []
    assert printed.startswith("token [REDACTED]\n")


def test_a_failing_cell_ends_the_notebook_with_its_trace(tmp_path: Path):
    result, cells, _ = run(tmp_path, "def fail():\n    raise KeyError('no')", "fail()", "print('never')")
    assert (result["error"], result["code"]) == ("KeyError: 'no'", "RUN_EXECUTION_ERROR")
    assert "----> 1 fail()" in result["trace"]
    assert cells[1].outputs[0].ename == "KeyError"
    assert cells[2].outputs == []
    broken, _, _ = run(tmp_path, "def (")
    assert broken["error"].startswith("SyntaxError: ")
    scala, _, _ = run(tmp_path, "%scala val x = 1")
    assert scala["error"] == "Unsupported: local_workspace runs Python, SQL and shell cells; not Scala or R"


def test_python_restarts_without_what_it_knew(tmp_path: Path):
    result, cells, _ = run(
        tmp_path,
        "x = 1\ndbutils.jobs.taskValues.set('k', [1, 'ü'])",
        "print('before')\ndbutils.library.restartPython()\nprint('never')",
        "%skip\nraise ValueError",
        "y = 1\n%restart_python",
        "dbutils.notebook.exit(str('x' in globals() or 'y' in globals()) + dbutils.widgets.get('p'))",
        parameters={"p": "!"},
    )
    assert result["result"] == "False!"
    assert cells[1].outputs[0].text == "before\n"
    assert json.loads((tmp_path / "values.json").read_text()) == {"k": [1, "ü"]}
