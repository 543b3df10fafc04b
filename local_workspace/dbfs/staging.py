"""Files that are written aside and then appear whole: what a kill interrupts is never visible."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


class Staging:
    """A folder on the disk of the files it is for. What an earlier process left there is removed."""

    def __init__(self, folder: Path):
        self.folder = folder
        for left_over in folder.iterdir():
            shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()

    def new(self) -> tuple[Path, BinaryIO]:
        """A new file, open for writing."""
        path = self.folder / secrets.token_hex(8)
        return path, path.open("xb")

    @contextlib.contextmanager
    def file(self) -> Iterator[tuple[Path, BinaryIO]]:
        """A new file that is gone afterwards unless it was published."""
        path, stream = self.new()
        try:
            with stream:
                yield path, stream
        finally:
            path.unlink(missing_ok=True)


def publish(staged: Path, stream: BinaryIO, target: Path, overwrite: bool) -> None:
    """Make a complete staged file visible at `target`, with the directories above it.

    Raises FileExistsError, IsADirectoryError, or NotADirectoryError when a parent is a file.
    """
    stream.flush()
    os.fsync(stream.fileno())
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(str(target.parent)) from None
    if overwrite:
        staged.replace(target)
    else:
        target.hardlink_to(staged)
