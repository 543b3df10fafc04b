"""The parent's side of a child process."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from local_workspace.engine import Engine
from local_workspace.errors import Unavailable


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = Engine("small", "local_workspace.tests.small_engine", tmp_path / "log")
    yield engine
    await engine.stop()


async def answers(engine: Engine) -> bool:
    try:
        return (await engine.call("GET", "/")).json() == {"said": "here"}
    except Unavailable:
        return False


async def test_a_killed_engine_fails_what_it_was_asked_and_at_most_one_call_after(engine: Engine):
    for _ in range(5):  # the end of a child is told late only now and then
        assert await answers(engine)
        asked = [asyncio.create_task(answers(engine)) for _ in range(30)]
        await asyncio.sleep(0.001)
        os.kill(engine.pid, signal.SIGKILL)
        assert await answers(engine) or await answers(engine)
        await asyncio.gather(*asked)
