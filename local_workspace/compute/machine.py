"""What clusters are made of here: this one machine, under the names that clients ask for."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

SPARK_VERSION = re.compile(r"\d+\.\d+\.x-[a-z0-9.-]*scala2\.1[23]", re.ASCII)
VERSIONS = {
    "17.3.x-scala2.13": "17.3 LTS (includes Apache Spark 4.0.0, Scala 2.13)",
    "16.4.x-scala2.13": "16.4 LTS (includes Apache Spark 3.5.2, Scala 2.13)",
    "16.4.x-scala2.12": "16.4 LTS (includes Apache Spark 3.5.2, Scala 2.12)",
    "15.4.x-scala2.12": "15.4 LTS (includes Apache Spark 3.5.0, Scala 2.12)",
    "14.3.x-scala2.12": "14.3 LTS (includes Apache Spark 3.5.0, Scala 2.12)",
    "13.3.x-scala2.12": "13.3 LTS (includes Apache Spark 3.4.1, Scala 2.12)",
}
"""The runtime versions with long-term support, newest first."""


def spark_versions() -> list[dict[str, str]]:
    """The runtime versions as the SDK's `SparkVersion`."""
    return [{"key": key, "name": name} for key, name in VERSIONS.items()]


def cores() -> int:
    """Processors of this machine."""
    return os.cpu_count() or 1


def memory_mb() -> int:
    """Memory of this machine in MiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1 << 20)


def node_type(root: Path) -> dict[str, Any]:
    """This machine as the SDK's `NodeType`; its disk is the one that `root` lies on."""
    name = f"local-{cores()}"
    return {
        "node_type_id": name,
        "instance_type_id": name,
        "description": "the machine the local workspace runs on",
        "category": "General Purpose",
        "memory_mb": memory_mb(),
        "num_cores": float(cores()),
        "num_gpus": 0,
        "is_deprecated": False,
        "is_graviton": False,
        "photon_driver_capable": False,
        "photon_worker_capable": False,
        "node_instance_type": {
            "instance_type_id": name,
            "local_disks": 1,
            "local_disk_size_gb": shutil.disk_usage(root).total // 10**9,
            "local_nvme_disks": 0,
            "local_nvme_disk_size_gb": 0,
        },
    }
