"""What is mounted in a cluster's file system: DBFS and the volumes; nothing else can be."""

from typing import Any

MOUNTS = [("/", "DatabricksRoot", ""), ("/Volumes", "UnityCatalogVolumes", "")]
"""Mount point, source and encryption of each."""


class Mounts:
    """Answers what databricks-sdk's `dbutils.fs` asks of a cluster."""

    def mounts(self) -> list[tuple[str, str, str]]:
        """All mounts."""
        return MOUNTS

    def refreshMounts(self) -> bool:
        """There is one machine, which knows them all."""
        return True

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"local_workspace does not have dbutils.fs.{name}: use volumes")
