"""`sota-deploy prompts` and `optimize`, as real processes against a real workspace."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from lib.catalog import MIGRATIONS
from lib.cli import main
from lib.context import AppContext
from lib.core import new_id
from lib.settings import load_settings
from nbs_tests.house import ROOT

Command = Callable[..., subprocess.CompletedProcess[str]]
TEXT = "Be brief.\n---\nSay {{what}} to [{{whom}}].\n"


@pytest.fixture(scope="module")
def context(environment: dict[str, str]) -> AppContext:
    """A schema with two versions of one prompt: v1 in production, v2 its challenger."""
    settings = replace(load_settings(environment), schema=f"commands_{new_id()[:8]}")
    context = AppContext(settings)
    context.catalog.ensure_containers()
    context.catalog.migrate([one for one in MIGRATIONS if one.name in ("003_examples", "005_improvement")])
    context.prompt_store.save("greet", TEXT, alias="production", source="repository")
    context.prompt_store.save(
        "greet", TEXT.replace("brief", "polite"), alias="challenger", optimizer="gepa", parent="v1", cost=0.01
    )
    return context


def environment_of(context: AppContext) -> dict[str, str]:
    settings = context.settings
    return {"DATABRICKS_HOST": settings.host, "DATABRICKS_TOKEN": settings.token, "SOTA_SCHEMA": settings.schema}


def sota(context: AppContext, *arguments: str, columns: int = 80) -> subprocess.CompletedProcess[str]:
    """`sota-deploy` as a process, in the schema of these tests."""
    given = os.environ | environment_of(context) | {"COLUMNS": str(columns)}
    command = [sys.executable, "-m", "lib.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=120)


@pytest.fixture
def command(context: AppContext, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The same command in this process, without a second of imports."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["sota-deploy", *arguments])
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as left:
                main()
        finally:
            signal.signal(signal.SIGTERM, before)
        shown = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, left.value.code or 0, shown.out, shown.err)

    for name, value in environment_of(context).items():
        monkeypatch.setenv(name, value)
    return run


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What a command that succeeded has shown, its layout aside."""
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return " ".join(done.stdout.split())


def test_a_list_shows_what_stands_where_and_fits_a_terminal(context: AppContext):
    done = sota(context, "prompts", "list")
    shown = said(done)
    assert "greet v1 production repository" in shown
    assert "greet v2 challenger gepa v1" in shown
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_version_is_shown_with_its_origin_and_its_text_as_it_is(command: Command):
    shown = said(command("prompts", "show", "greet", "challenger"))
    assert "greet v2 · challenger" in shown
    assert "Be polite. --- Say {{what}} to [{{whom}}]." in shown
    assert "optimizer gepa" in shown


def test_a_diff_shows_what_changed(command: Command):
    shown = said(command("prompts", "diff", "greet", "v1", "2"))
    assert shown.startswith("--- greet v1 +++ greet v2")
    assert "-Be brief. +Be polite." in shown


def test_production_moves_is_recorded_and_is_taken_back(context: AppContext, command: Command):
    me = context.workspace.check()
    moved = said(sota(context, "prompts", "promote", "greet", "challenger", "--why", "the [gate] said so", columns=200))
    assert moved == f"done greet: production is now v2 (was v1), by {me}"
    assert context.prompt_store.get("greet").version == 2
    again = said(command("prompts", "promote", "greet", "v2", "--why", "once more"))
    assert again == "greet: production stood for v2 already"
    back = said(sota(context, "prompts", "rollback", "greet", "--why", "complaints", columns=200))
    assert back == f"done greet: production is now v1 (was v2), by {me}"
    assert context.prompt_store.get("greet").version == 1
    shown = said(sota(context, "prompts", "history", "greet", columns=200))
    assert f"production v1 → v2 {me} the [gate] said so" in shown
    assert f"production v2 → v1 {me} complaints" in shown
    nothing = command("prompts", "rollback", "greet", "--why", "once more")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "nothing to roll back to" in nothing.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["list", "greed"], 1, "prompt greed: there is no prompt of this name; there is greet"),
        (["show", "greet", "v7"], 1, "it has v1, v2, challenger, production"),
        (["promote", "greet", "99999999999999999999", "--why", "x"], 1, "it has v1, v2"),
        (["promote", "greet", "2", "--why", " "], 2, "why is empty"),
        (["promote", "greet", "2", "--why", "x", "--alias", "v3"], 2, "alias 'v3'"),
        (["promote", "greet", "2"], 2, "Missing option '--why'"),
        (["rollback", "'; DROP TABLE x --", "--why", "x"], 1, "there is greet"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_the_cure(command: Command, arguments: list[str], code: int, told: str):
    failed = command("prompts", *arguments)
    assert (failed.returncode, failed.stdout) == (code, "")
    assert told in failed.stderr
    assert "Traceback" not in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1 or "Usage:" in failed.stderr
