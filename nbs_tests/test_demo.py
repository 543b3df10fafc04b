"""The demo as its user runs it: from a CSV file to demo.json, nothing left running, errors before anything starts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lib.fraud.demo import judge, summary
from nbs_tests.house import ROOT
from nbs_tests.processes import WEIGHTS

HEADER = "transaction_id,timestamp,customer_id,amount,merchant,location"
ROW = "t1,2026-03-01T10:00:00,C0001,12.50,M0001,Ghent"
KEYS = {
    "transaction_id",
    "recommended_action",
    "risk_score",
    "fraud_score",
    "narrative",
    "latency_ms",
    "trace_id",
    "prompt",
    "model",
}


def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"SOTA_WEIGHTS": str(WEIGHTS), "SOTA_LOCAL_MODEL": "smollm2"}
    command = [sys.executable, "-m", "lib.cli", "demo", "--root", str(root), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, start_new_session=True, **pipes)


def below(root: Path) -> list[str]:
    """What still runs for a workspace folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if str(root) in command:
            found.append(command)
    return found


def test_a_users_own_file_is_decided_end_to_end(tmp_path: Path):
    """Columns in another order, one more than is known, an id with a comma, and labels."""
    root = tmp_path / "root"
    (tmp_path / "mine.csv").write_text(
        "is_fraud,note,location,merchant,amount,customer_id,timestamp,transaction_id\n"
        "0,x,Ghent,M0001,12.50,C0001,2026-03-01T10:00:00,plain\n"
        '1,y,Ostend,M0082,900,C0001,2026-03-01T11:00:00,"with, comma"\n'
    )
    process = start(root, "--transactions", str(tmp_path / "mine.csv"))
    out, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    result = json.loads((root / "demo.json").read_text())
    assert (result["transactions"], result["decided"]) == (2, 2)
    assert [found["transaction_id"] for found in result["decisions"]] == ["plain", "with, comma"]
    assert all(found.keys() == KEYS for found in result["decisions"])
    assert {found["recommended_action"] for found in result["decisions"]} <= {"approve", "review", "block"}
    assert all(found["narrative"] and len(found["trace_id"]) == 32 for found in result["decisions"])
    assert result["decisions"][1]["prompt"] == "fraud_detector v1"
    assert result["telemetry_rows"] >= 2
    assert result["memory_rows"] == 2
    assert result["latency_ms"].keys() == {"p50", "p95"}
    assert result["app_url"].startswith("http://")
    assert (result["auc"], result["precision"], result["recall"]) == (1.0, 1.0, 1.0)
    assert "ROC AUC 1.00" in out
    assert below(root) == []


def test_an_interrupted_demo_leaves_nothing_running(tmp_path: Path):
    root = tmp_path / "root"
    process = start(root)
    end = time.monotonic() + 60
    while not (root / "server.json").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert below(root)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert [command for command in below(root) if "lib.cli" not in command] == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f"{HEADER.replace('amount,', '')}\n", "missing column amount"),
        (f"{HEADER}\n{ROW}\n{ROW.replace('12.50', 'much').replace('t1', 't2')}\n", "row 2 (line 3), column amount"),
        (f"{HEADER}\n{ROW.replace('2026-03-01T10:00:00', 'yesterday')}\n", "row 1 (line 2), column timestamp"),
        ("", "empty"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_starts(tmp_path: Path, content: str, told: str):
    (tmp_path / "mine.csv").write_text(content)
    process = start(tmp_path / "root", "--transactions", str(tmp_path / "mine.csv"))
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert told in errors
    assert len(errors.strip().splitlines()) == 1
    assert out == ""
    assert not (tmp_path / "root").exists()


def decision(action: str, risk: float, score: float | None = None) -> dict:
    return dict.fromkeys(KEYS) | {
        "recommended_action": action,
        "risk_score": risk,
        "fraud_score": score,
        "latency_ms": risk * 100,
    }


def test_decisions_are_judged_by_score_and_by_action():
    decisions = [
        decision("approve", 0.1),
        decision("review", 0.9, 0.4),
        decision("block", 0.2, 0.9),
        decision("approve", 0.3),
    ]
    assert judge([False, False, True, True], decisions) == {"auc": 0.75, "precision": 0.5, "recall": 0.5}


def test_without_both_classes_there_is_no_auc():
    assert judge([False, False], [decision("approve", 0.1), decision("review", 0.5)])["auc"] is None


def test_the_summary_counts_what_was_decided():
    decisions = [decision("approve", 0.1), decision("block", 0.9)]
    found = summary(decisions, {"spans": 7, "decisions": 2, "memories": 2}, "http://app")
    assert found.keys() == {
        "transactions",
        "decided",
        "decisions",
        "telemetry_rows",
        "memory_rows",
        "latency_ms",
        "app_url",
    }
    assert found["latency_ms"] == {"p50": 50.0, "p95": 86.0}
    assert (found["telemetry_rows"], found["memory_rows"], found["decided"]) == (7, 2, 2)
