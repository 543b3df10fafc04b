"""Files in volumes as the engine reads and writes them: `/Volumes/catalog/schema/volume/…` as a path of the machine."""

from pathlib import Path

from local_workspace.sql.lake.catalog import Catalog
from local_workspace.sql.lake.errors import SqlError, unsupported

TOP = "/Volumes/"


def _outside(path: str) -> SqlError:
    return SqlError("INVALID_PATH", f"The path {path!r} leads out of its volume.", "22023")


def local_path(catalog: Catalog, path: str) -> str:
    """Where a path below `/Volumes` (or `dbfs:/Volumes`) lies; globs stay globs.

    Raises SqlError for a path that is not in a volume, for a volume there is not, and for a way out of it.
    """
    absolute = path.removeprefix("dbfs:")
    if not absolute.startswith(TOP):
        raise unsupported(f"the path {path!r}: files are read and written below /Volumes/catalog/schema/volume")
    names = [part for part in absolute.removeprefix(TOP).split("/") if part]
    if len(names) < 3:
        raise SqlError("INVALID_PATH", f"The path {path!r} names no volume.", "22023")
    if ".." in names:
        raise _outside(path)
    record = catalog.engine("GET", "volumes", ".".join(names[:3]))
    folder = Path(record["folder"])
    local = folder.joinpath(*names[3:])
    # A symbolic link inside the volume could lead anywhere; what a glob stands for is below the part before it.
    fixed = Path(str(local).partition("*")[0])
    if not fixed.resolve().is_relative_to(folder.resolve()):
        raise _outside(path)
    return str(local)
