"""Become a command that dies with the workspace: `python -I -S launch.py <workspace's pid> <command> <argument>...`."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
COMMAND_NOT_FOUND = 127


def main(workspace: int, command: list[str]) -> None:
    """Ask the kernel for the signal and replace this process. Elsewhere than on Linux, the next start cleans up."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != workspace:
        sys.exit("the workspace is gone")
    try:
        os.execvp(command[0], command)  # noqa: S606 - an argv from app.yaml is meant to run without a shell
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        sys.exit(COMMAND_NOT_FOUND)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
