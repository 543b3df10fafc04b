"""Packages that users' code brings along: in folders of their own on `sys.path`, never in the workspace's Python."""

import importlib
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class InstallError(Exception):
    """A package could not be installed; the message is the end of what the installer said."""


def _installer(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What uv, or pip where there is no uv, says to these arguments."""
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    tool = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    offline = ["--offline" if uv else "--no-index"] if "--dry-run" in arguments else []
    command = [*tool, *offline, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the user's requirements


def _there(requirements: Sequence[str]) -> bool:
    """Whether the workspace's own Python has them all: like serverless compute, it comes with packages."""
    tried = _installer("--dry-run", *requirements)
    return not tried.returncode and "Would install" not in tried.stdout + tried.stderr


def install(target: Path, requirements: Sequence[str]) -> str:
    """Install into `target`, with uv if there is one; returns what the installer said. Raises InstallError."""
    ended = _installer("--target", str(target), *requirements)
    if ended.returncode:
        raise InstallError((ended.stderr or ended.stdout).strip()[-4000:])
    return ended.stdout + ended.stderr


def prepared(target: Path, requirements: Sequence[str]) -> Path | None:
    """A folder with `requirements`, installed once and kept: visible only when it is complete. Raises InstallError.

    None when there is nothing to install.
    """
    if not target.exists():
        if _there(requirements):
            return None
        staged = target.with_name(f".{secrets.token_hex(6)}")
        staged.mkdir(parents=True)
        try:
            install(staged, requirements)
            staged.replace(target)
        except OSError:
            if not target.exists():  # another task was not faster
                raise
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return target


class Packages:
    """The packages of one process."""

    def __init__(self, folder: Path):
        self._folder = folder
        if folder.exists():
            self.use(folder)

    def use(self, folder: Path) -> None:
        """Put a folder of packages first on `sys.path`."""
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        importlib.invalidate_caches()

    def install(self, requirements: Sequence[str]) -> str:
        """`%pip install`. Raises InstallError."""
        said = install(self._folder, requirements)
        self.use(self._folder)
        return said
