"""`sota-deploy prompts` and `optimize`, as real processes against a real workspace."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from lib import prompt_commands
from lib.cli import main
from lib.context import AppContext
from nbs_tests.detector_ground import AGENT, ROWS, detector_ground, environment_of
from nbs_tests.house import ROOT
from nbs_tests.scripted_model import Script

Command = Callable[..., subprocess.CompletedProcess[str]]
TEXT = "Be brief.\n---\nSay {{what}} to [{{whom}}].\n"


@pytest.fixture(scope="module")
def ground(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[AppContext, Script]]:
    """Beside the detector's prompt another one: v1 in production, v2 its challenger."""
    with detector_ground(environment, tmp_path_factory.mktemp("config")) as (context, script):
        store = context.prompt_store
        store.save("greet", TEXT, alias="production", source="repository")
        store.save("greet", TEXT.replace("brief", "polite"), alias="challenger", optimizer="gepa", parent=1, cost=0.01)
        yield context, script


@pytest.fixture(scope="module")
def context(ground: tuple[AppContext, Script]) -> AppContext:
    return ground[0]


def sota(context: AppContext, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`sota-deploy` as a process, in the schema of these tests."""
    given = os.environ | environment_of(context) | {"COLUMNS": "80"}
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
    monkeypatch.setattr(prompt_commands._console, "width", 200)
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
    moved = said(sota(context, "prompts", "promote", "greet", "challenger", "--why", "the [gate] said so"))
    assert moved == f"done greet: production is now v2 (was v1), by {me}"
    assert context.prompt_store.get("greet").version == 2
    again = said(command("prompts", "promote", "greet", "v2", "--why", "once more"))
    assert again == "greet: production stood for v2 already"
    back = said(command("prompts", "rollback", "greet", "--why", "complaints"))
    assert back == f"done greet: production is now v1 (was v2), by {me}"
    assert context.prompt_store.get("greet").version == 1
    shown = said(command("prompts", "history", "greet"))
    assert f"production v1 → v2 {me} the [gate] said so" in shown
    assert f"production v2 → v1 {me} complaints" in shown
    nothing = command("prompts", "rollback", "greet", "--why", "once more")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "nothing to roll back to" in nothing.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["list", "greed"], 1, "prompt greed: there is no prompt of this name; there is fraud_detector, greet"),
        (["show", "greet", "v7"], 1, "it has v1, v2, challenger, production"),
        (["promote", "greet", "99999999999999999999", "--why", "x"], 1, "it has v1, v2"),
        (["promote", "greet", "2", "--why", " "], 2, "why is empty"),
        (["promote", "greet", "2", "--why", "x", "--alias", "v3"], 2, "alias 'v3'"),
        (["promote", "greet", "2"], 2, "Missing option '--why'"),
        (
            ["compare", "greet", "--agent", "fraud_detector"],
            2,
            "prompt greet is not judged by agent fraud_detector: by none",
        ),
        (["rollback", "'; DROP TABLE x --", "--why", "x"], 1, "there is fraud_detector, greet"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_the_cure(command: Command, arguments: list[str], code: int, told: str):
    failed = command("prompts", *arguments)
    assert (failed.returncode, failed.stdout) == (code, "")
    assert told in failed.stderr
    assert "Traceback" not in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1 or "Usage:" in failed.stderr


def test_a_study_then_the_gate_then_production(ground: tuple[AppContext, Script], command: Command):
    context, script = ground
    improved = sota(context, "optimize", "dspy", "--agent", AGENT, "--budget", "0.5", "--rows", "6")
    shown = said(improved)
    assert "right answers 50.0% 100.0%" in shown
    assert "of 0.5 in money" in shown
    assert f"verdict {AGENT} v2 is a challenger" in shown
    assert max(map(len, improved.stdout.splitlines())) <= 80
    assert script.count == 12

    compared = said(command("prompts", "compare", AGENT, "--rows", "10"))
    assert "on 10 rows v1, production v2" in compared
    assert "gate inconclusive: " in compared
    assert context.prompt_store.aliases(AGENT) == {"production": 1, "challenger": 2}
    assert script.count == 12 + 2 * 10

    promoted = said(command("prompts", "compare", AGENT, "--challenger", "v2", "--promote"))
    assert "promoted, v2 has taken the place of v1" in promoted
    assert context.prompt_store.aliases(AGENT) == {"production": 2}
    assert script.count == 12 + 2 * ROWS["holdout"], "what was paid for the first comparison is not paid again"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["optimize", "dspy", "--agent", "nobody"], 1, "no agent is named 'nobody': known are echo, "),
        (["optimize", "dspy", "--budget", "0.0000001"], 1, "too small for one trial"),
        (["optimize", "dspy", "--budget-tokens", "0"], 2, "budget_tokens: Input should be greater than or equal to 1"),
        (["optimize", "textgrad"], 1, "no feedback on decisions of agent fraud_detector"),
        (["prompts", "compare", "greet"], 2, "prompt greet: no agents have a task that judges their prompt"),
        (["prompts", "compare", AGENT, "--challenger", "v9"], 1, "prompt fraud_detector v9: it has v1"),
        (["prompts", "compare", AGENT, "--challenger", "production"], 2, "is production: compare another version"),
    ],
)
def test_a_study_that_cannot_be_is_refused_before_anything_is_paid(
    ground: tuple[AppContext, Script], command: Command, arguments: list[str], code: int, told: str
):
    asked = ground[1].count
    failed = command(*arguments)
    assert (failed.returncode, failed.stderr.count("\n")) == (code, 1), failed
    assert told in failed.stderr
    assert ground[1].count == asked


@pytest.mark.parametrize(
    ("arguments", "choices"),
    [
        (["dspy", "--optimizer", "textgrad"], "labeled_few_shot bootstrap_few_shot miprov2 gepa"),
        (["textgrad", "--source", "dreams"], "feedback examples"),
    ],
)
def test_a_wrong_choice_is_told_the_right_ones_at_once(command: Command, arguments: list[str], choices: str):
    failed = command("optimize", *arguments)
    assert failed.returncode == 2
    assert all(choice in failed.stderr for choice in choices.split())
    assert "Traceback" not in failed.stderr


def test_the_plan_names_the_jobs(context: AppContext, command: Command):
    shown = said(command("plan"))
    for job in ("nightly", "nightly-cluster", "watch"):
        assert f"job │ {context.settings.app_name}-prompts-{job} │ create" in shown
