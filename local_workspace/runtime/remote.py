"""Files of the workspace as files of this process, for programs that know nothing of it."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from local_workspace.runtime.shell import Shell


def fetched(shell: "Shell", argument: str, folder: Path) -> str:
    """`argument`, or the copy below `folder` of the workspace's file that it names. Raises RestError, OSError."""
    if not argument.startswith(("/Workspace/", "/Volumes/", "dbfs:/")):
        return argument
    place = folder / secrets.token_hex(8) / argument.rpartition("/")[2]
    place.parent.mkdir(parents=True)
    if argument.startswith("/Workspace/"):
        export = "/api/2.0/workspace/export"
        place.write_bytes(shell.rest.get(export, path=argument, format="AUTO", direct_download="true"))
    else:
        shell.dbutils.fs.cp(argument, f"file:{place}")
    return str(place)
