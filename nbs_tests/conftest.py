"""One real local workspace for every test, and the environment that points genuine clients at it."""

from collections.abc import Iterator

import pytest

from nbs_tests.processes import Workspace, local_workspace


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A fresh workspace with the small test model."""
    with local_workspace(tmp_path_factory.mktemp("workspace")) as running:
        yield running


@pytest.fixture(scope="session")
def environment(workspace: Workspace) -> dict[str, str]:
    """The environment variables that point any client at the workspace."""
    return workspace.environment
