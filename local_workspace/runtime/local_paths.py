"""`/Volumes`, `/Workspace` and `/dbfs` as ordinary paths of Python code, as on a cluster, where they are mounted.

Nothing can be mounted here, so the functions of `os` and `open` that take paths are told where these folders are. Code
that opens files by itself, as `%sh` and C libraries do, does not see them.
"""

import builtins
import io
import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
)
from typing import Any

VARIABLE = "LOCAL_WORKSPACE_MOUNTS"
"""A JSON object: prefix of a path → folder on disk."""
READING = ("access", "chdir", "listdir", "lstat", "open", "readlink", "scandir", "stat", "statvfs")
WRITING = ("chmod", "chown", "mkdir", "remove", "rmdir", "truncate", "unlink", "utime")
TWO_PATHS = ("link", "rename", "replace", "symlink")


def install(environ: Mapping[str, str] = os.environ) -> None:
    """Let this process see the folders that its environment names."""
    folders: dict[str, str] = json.loads(environ.get(VARIABLE, "{}"))
    if not folders:
        return

    def on_disk(path: Any) -> Any:
        try:
            text = os.fspath(path)
        except TypeError:  # a file descriptor
            return path
        prefix, slash, rest = text[1:].partition("/") if isinstance(text, str) and text[:1] == "/" else ("", "", "")
        folder = folders.get(f"/{prefix}")
        if folder is None:
            return path
        if prefix == "Volumes":  # Unity Catalog keeps names in lower case
            names = rest.split("/")
            rest = "/".join([*(name.lower() for name in names[:3]), *names[3:]])
        return folder + slash + rest

    def taught(function: Callable[..., Any], count: int) -> Callable[..., Any]:
        @wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            return function(*map(on_disk, arguments[:count]), *arguments[count:], **options)

        return call

    for names, count in ((READING, 1), (WRITING, 1), (TWO_PATHS, 2)):
        for name in names:
            setattr(os, name, taught(getattr(os, name), count))
    builtins.open = io.open = taught(io.open, 1)

    def finder(entry: str) -> Any:
        """For `sys.path`, whose files are not found by way of `os`."""
        if (place := on_disk(entry)) == entry:
            raise ImportError(f"{entry} is not one of ours")
        sources = (SourceFileLoader, SOURCE_SUFFIXES)
        return FileFinder.path_hook((ExtensionFileLoader, EXTENSION_SUFFIXES), sources)(place)

    sys.path_hooks.insert(0, finder)
