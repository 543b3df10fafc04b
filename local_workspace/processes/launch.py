"""Run a command that ends with the workspace: `python -I -S launch.py <command> <argument>...`.

This process leads the session while the command runs in it. Its standard input is a pipe that the workspace holds: when
the workspace is gone, however it ended, the pipe closes, and the whole session is killed.
"""

import os
import signal
import sys
import threading

COMMAND_NOT_FOUND = 127


def main(command: list[str]) -> int:
    """The command's exit code; 128 and the signal's number when a signal ended it, as in a shell."""
    # The session is told to end as a whole: how long the command takes for it is its own affair.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        process = os.posix_spawnp(
            command[0],
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # Python has it ignored
        )
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        return COMMAND_NOT_FOUND
    threading.Thread(target=_end_with_workspace, daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return code if code >= 0 else 128 - code


def _end_with_workspace() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # not by the thread's leave: it waits for the pipe
