"""The house stays as DESIGN draws it: floors, owners, public lists, no drift between notebooks and lib."""

import ast
import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

from nbs_tests.house import FLOORS, PLAIN_FILES, ROOT, modules

LIBRARY = {name: path for name, path in modules().items() if name not in PLAIN_FILES}
SOURCES = [
    path
    for folder in ("lib", "app", "jobs", "local_workspace", "nbs_tests", "bench")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def imported(path: Path) -> set[str]:
    """Every module a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def lib_imports(path: Path) -> set[str]:
    """The lib modules a file imports, by their short names."""
    short = {name.removeprefix("lib.") for name in imported(path) if name.startswith("lib.")}
    return {name for name in short if name in LIBRARY}


@pytest.mark.parametrize("name", LIBRARY)
def test_a_module_imports_only_floors_below_it(name: str):
    assert name in FLOORS, f"lib.{name} has no floor: add it to nbs_tests/house.py where it belongs"
    above = {other for other in lib_imports(LIBRARY[name]) if FLOORS.index(other) >= FLOORS.index(name)}
    assert not above, f"lib.{name} reaches up to {above}"


def test_only_the_example_knows_the_example():
    knowing = [name for name, path in LIBRARY.items() if "fraud" in path.read_text().lower()]
    assert [name for name in knowing if not name.startswith("fraud.")] == []


def test_lib_and_the_local_workspace_share_no_code():
    for path in SOURCES:
        top = path.relative_to(ROOT).parts[0]
        packages = {name.split(".")[0] for name in imported(path)}
        if top in ("lib", "app", "jobs"):
            assert "local_workspace" not in packages, f"{path.relative_to(ROOT)} imports local_workspace"
        if top == "local_workspace":
            assert not packages & {"lib", "app"}, f"{path.relative_to(ROOT)} imports the library"


def test_every_module_has_one_notebook():
    owners: dict[str, list[str]] = {}
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(notebook.read_text())["cells"]
        source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        for module in re.findall(r"^#\| *default_exp +(\S+)", source, re.MULTILINE):
            owners.setdefault(module, []).append(notebook.name)
    assert {module: names for module, names in owners.items() if len(names) > 1} == {}
    assert set(LIBRARY) == set(owners), "a module without a notebook, or a notebook that was never exported"


@pytest.mark.parametrize("name", LIBRARY)
def test_the_public_list_is_explicit_and_true(name: str):
    tree = ast.parse(LIBRARY[name].read_text())
    defined = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign):
            defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            defined.add(node.target.id)
    public = {item for item in defined if not item.startswith("_")}
    module = importlib.import_module(f"lib.{name}")
    assert set(module.__all__) == public
    things = [thing for item in public if isinstance(thing := getattr(module, item), type | FunctionType)]
    assert [thing.__name__ for thing in things if not thing.__doc__] == []


def test_importing_does_nothing():
    """No thread, no output, no heavy package, no reading of the environment's address."""
    heavy = ("mlflow", "dspy", "litellm", "torch", "textgrad")
    program = (
        "import importlib, sys, threading\n"
        f"for name in {list(LIBRARY)!r}: importlib.import_module('lib.' + name)\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        f"assert not [name for name in {heavy!r} if name in sys.modules]\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "DATABRICKS_HOST": "not a host at all", "SOTA_TARGET": "nowhere"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_no_name_of_a_target_is_written_outside_settings():
    """Catalog and schema come from settings.ini alone."""
    literal = re.compile(r"\bmain\.agents\b|/Volumes/main/agents")
    guilty = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] in ("lib", "app", "jobs") and literal.search(path.read_text())
    ]
    assert guilty == []


def test_the_notebooks_and_lib_are_the_same(tmp_path: Path):
    """Clean and export in a copy: nothing may change."""
    for folder in ("notebooks", "lib"):
        ignored = shutil.ignore_patterns("__pycache__", "*.py" if folder == "notebooks" else "")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    scripts = Path(sys.executable).parent
    for command in ("nbdev-clean", "nbdev-export"):
        subprocess.run([scripts / command], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    for folder, pattern in (("notebooks", "*.ipynb"), ("lib", "*.py")):
        before = {path.relative_to(ROOT): path.read_text() for path in (ROOT / folder).rglob(pattern)}
        after = {path.relative_to(tmp_path): path.read_text() for path in (tmp_path / folder).rglob(pattern)}
        changed = sorted(str(name) for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        assert changed == [], "run `make export` and commit what it writes"


def test_lib_is_tracked_by_git():
    tracked = subprocess.run(["git", "ls-files", "lib"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert {str(path.relative_to(ROOT)) for path in LIBRARY.values()} <= set(tracked.split())


def test_no_module_is_long():
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in long.items() if lines > 400 and name != "lib/_modidx.py"} == {}


def test_nothing_of_this_machine_is_committed():
    """No absolute path in a notebook, no index address in the pins, no lock file."""
    home = str(Path.home())
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        text = notebook.read_text()
        found = [path for path in (str(ROOT), f"{home}/", "/tmp/", "site-packages") if path in text]  # noqa: S108  # looked for, not used
        assert found == [], f"{notebook.name} shows {found}"
    pins = (ROOT / "constraints.txt").read_text()
    assert "://" not in pins and "--" not in pins
    assert not (ROOT / "uv.lock").exists()
