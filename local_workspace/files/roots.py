"""The top folders of the Files API, each with its own kind of container."""

from local_workspace.errors import BadRequest
from local_workspace.files.store import FileTree


class Roots:
    """The file trees behind one path space."""

    def __init__(self, *trees: FileTree):
        self._trees = trees

    def find(self, path: str) -> tuple[FileTree, str]:
        """The tree an absolute path lies in, and the path within it. Raises BadRequest."""
        absolute = "/" + path.lstrip("/")
        for tree in self._trees:
            if absolute == tree.top or absolute.startswith(f"{tree.top}/"):
                return tree, absolute[len(tree.top) + 1 :]
        raise BadRequest(f"path must begin with {' or '.join(tree.top for tree in self._trees)}: {path[:200]!r}")
