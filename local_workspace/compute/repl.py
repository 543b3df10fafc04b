"""`python -m local_workspace.compute.repl <folder>`: an execution context, one command after the other.

A line of JSON `{"source", "language"}` on standard input is a command; a line on standard output is the end of one
(the SDK's `Results`), and the first line says that it is ready. What users' code prints to the descriptors themselves
goes to the log. The process ends, with all that it has started, as soon as nobody holds the other end.
"""

import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from local_workspace.compute.results import as_results, failed
from local_workspace.runtime.context import Context
from local_workspace.runtime.shell import Shell

MAX_RESULT = 20 << 20
"""Bytes of one command's results."""


class Repl:
    """The loop around one shell."""

    def __init__(self, folder: Path):
        self._answers = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        self._input = os.fdopen(os.dup(0), "rb")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        self._commands: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()  # a signal may put
        self._busy = False
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, self._terminate)
        threading.Thread(target=self._listen, daemon=True).start()
        self._shell = Shell(Context.from_environment(user=os.environ["LOCAL_WORKSPACE_USER"]), folder)
        self._answer({"ready": True})

    def serve(self) -> None:
        """Run commands until it is told to end."""
        while (command := self._commands.get()) is not None:
            self._busy = True
            try:
                result = self._shell.run(command["source"], command["language"])
                self._busy = False
                answer = as_results(result)
            except KeyboardInterrupt:  # it came when the command had just ended
                self._busy = False
                self._answer(failed("KeyboardInterrupt"))
                continue
            self._answer(answer | {"restart": result.restart})
            if result.restart:
                self._restart()
        self._shell.close()

    def _answer(self, answer: dict[str, Any]) -> None:
        line = json.dumps(answer).encode()
        if len(line) > MAX_RESULT:
            line = json.dumps(failed(f"the result has {len(line)} bytes; the limit is {MAX_RESULT}")).encode()
        left = memoryview(line + b"\n")
        while left:
            left = left[self._answers.write(left) :]

    def _restart(self) -> None:
        """Become a new process between the same pipes."""
        self._shell.close()
        os.dup2(self._input.fileno(), 0)
        os.dup2(self._answers.fileno(), 1)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this very command again

    def _listen(self) -> None:
        for line in self._input:
            self._commands.put(json.loads(line))
        os.killpg(0, signal.SIGKILL)

    def _interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        if self._busy:
            raise KeyboardInterrupt

    def _terminate(self, _signal: int, _frame: FrameType | None) -> None:
        self._commands.put(None)


if __name__ == "__main__":
    Repl(Path(sys.argv[1])).serve()
