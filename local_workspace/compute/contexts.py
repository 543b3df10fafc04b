"""Execution contexts: a child process each, that runs the commands of one client in order and keeps their names."""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_workspace.compute.results import failed

MARK = "LOCAL_WORKSPACE_CONTEXT"
"""The environment variable by which a process is known to be of a context."""
GRACE_SECONDS = 2.0
CANCEL_SECONDS = 5.0
"""A command that does not end so long after its interrupt ends with its process."""
MAX_LINE = 32 << 20
KEPT_COMMANDS = 1000


@dataclass
class Command:
    """One command and how far it is."""

    source: str
    language: str
    command_id: str = field(default_factory=lambda: secrets.token_hex(16))
    status: str = "Queued"
    results: dict[str, Any] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, status: str, results: dict[str, Any]) -> None:
        """It is over; what came first stays."""
        if not self.ended.is_set():
            self.status, self.results = ("Cancelled" if self.status == "Cancelling" else status), results
            self.ended.set()


class ExecutionContext:
    """One child process. `environment` is the whole of what it is given."""

    def __init__(self, cluster_id: str, language: str, folder: Path, environment: dict[str, str]):
        self.context_id = secrets.token_hex(10)
        self.cluster_id = cluster_id
        self.language = language
        self.status = "Pending"
        self.touched = time.time()
        self.commands: dict[str, Command] = {}
        self.ready = asyncio.Event()
        """Set when it runs or has failed to."""
        self._folder = folder / self.context_id
        self.on_start: Callable[[int], None] = lambda pid: None
        self.on_end: Callable[[int | None], None] = lambda pid: None
        """Called when the process is gone, or could not be started."""
        self._environment = environment | {MARK: self.context_id, "IPYTHONDIR": str(self._folder / "ipython")}
        self._queue: asyncio.Queue[Command | None] = asyncio.Queue()
        self._watcher: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._task = asyncio.create_task(self._run())

    @property
    def busy(self) -> bool:
        """Whether a command runs or waits."""
        return any(not command.ended.is_set() for command in self.commands.values())

    def execute(self, source: str, language: str) -> Command:
        """A new command, behind those before it."""
        for command_id in [c for c, command in self.commands.items() if command.ended.is_set()][:-KEPT_COMMANDS]:
            del self.commands[command_id]
        command = Command(source, language)
        self.commands[command.command_id] = command
        self.touched = time.time()
        if self._task.done():
            command.end("Error", failed("the execution context has ended: create a new one"))
        else:
            self._queue.put_nowait(command)
        return command

    async def cancel(self, command: Command) -> None:
        """Interrupt a command; its process is killed when it does not react."""
        if command.status == "Queued":
            command.end("Cancelled", failed("CommandCancelled"))
        if command.ended.is_set():
            return
        command.status = "Cancelling"
        self._signal(signal.SIGINT)
        try:
            await asyncio.wait_for(command.ended.wait(), CANCEL_SECONDS)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await command.ended.wait()

    async def destroy(self) -> None:
        """End the process with all that it has started, and forget its folder."""
        self._signal(signal.SIGTERM)
        if self._process:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), GRACE_SECONDS)
        self._signal(signal.SIGKILL)
        await self._task
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _run(self) -> None:
        try:
            await self._serve()
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            code = await self._process.wait() if self._process else type(error).__name__
            end = f"the Python process has ended unexpectedly ({code}). End of its log: {self._last_words()}"
            self.status = "Error"
            self.ready.set()
            for command in self.commands.values():
                command.end("Error", failed(end))
        finally:
            self._signal(signal.SIGKILL)
            if self._process:
                await self._process.wait()
            self.on_end(self._process.pid if self._process else None)

    async def _serve(self) -> None:
        self._folder.mkdir(parents=True)
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "local_workspace.compute.repl", str(self._folder)),
                cwd=self._folder,
                env=self._environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                limit=MAX_LINE,
            )
        self._process = process
        self.on_start(process.pid)
        self._watcher = asyncio.create_task(self._watch(process))
        requests, answers = process.stdin, process.stdout
        if requests is None or answers is None:
            raise RuntimeError("the child was started without pipes")
        await _line(answers)
        self.status = "Running"
        self.ready.set()
        while True:
            command = await self._queue.get()
            if command is None:
                raise ChildProcessError("it is gone")
            if command.ended.is_set():
                continue
            command.status = "Running"
            requests.write(json.dumps({"source": command.source, "language": command.language}).encode() + b"\n")
            await requests.drain()
            results = await _line(answers)
            if results.pop("restart", False):
                await _line(answers)
            self.touched = time.time()
            command.end("Finished", results)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        self._queue.put_nowait(None)

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return self._log.read_bytes()[-800:].decode(errors="replace").strip()
        return ""

    def _signal(self, number: signal.Signals) -> None:
        """Signal the whole session, so that nothing users' code has started stays behind."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


async def _line(answers: asyncio.StreamReader) -> dict[str, Any]:
    """The child's next answer. Raises IncompleteReadError when it has ended, ValueError for what is no answer."""
    return json.loads(await answers.readuntil(b"\n"))
