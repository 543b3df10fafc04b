"""Paths that clients name, kept below the folder they belong to."""

from pathlib import Path

from local_workspace.errors import BadRequest

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 3000


def segments(path: str) -> list[str]:
    """The names of a slash-separated path. Raises BadRequest for `.`, `..`, NUL and over-long names."""
    if len(path.encode("utf-8", "replace")) > MAX_PATH_BYTES:
        raise BadRequest(f"path must not be longer than {MAX_PATH_BYTES} bytes")
    names = [name for name in path.split("/") if name]
    for name in names:
        if name in (".", ".."):
            raise BadRequest(f"path must not contain '{name}' segments: {path[:200]!r}")
        if "\0" in name or len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
            raise BadRequest(f"path has a name that is not a file name: {name[:50]!r}")
    return names


def below(root: Path, names: list[str]) -> Path:
    """The place of `names` below `root`. Raises BadRequest when a symbolic link leads anywhere else."""
    root = root.resolve()
    place = root.joinpath(*names)
    try:
        genuine = place.resolve() == place
    except (OSError, RuntimeError):  # a loop of links
        genuine = False
    if not genuine:
        raise BadRequest(f"path leads through a symbolic link: {'/'.join(names)[:200]!r}")
    return place
