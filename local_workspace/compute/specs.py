"""What a request may say of a cluster. What has no meaning on one machine is kept and shown."""

from typing import Any

from local_workspace.compute.machine import SPARK_VERSION
from local_workspace.errors import BadRequest, NotImplementedHere

KEPT = {
    "apply_policy_default_values": bool,
    "autoscale": dict,
    "autotermination_minutes": int,
    "aws_attributes": dict,
    "azure_attributes": dict,
    "cluster_log_conf": dict,
    "cluster_name": str,
    "custom_tags": dict,
    "data_security_mode": str,
    "driver_instance_pool_id": str,
    "driver_node_type_flexibility": dict,
    "driver_node_type_id": str,
    "enable_elastic_disk": bool,
    "enable_local_disk_encryption": bool,
    "gcp_attributes": dict,
    "instance_pool_id": str,
    "is_single_node": bool,
    "kind": str,
    "node_type_id": str,
    "num_workers": int,
    "remote_disk_throughput": int,
    "runtime_engine": str,
    "single_user_name": str,
    "spark_conf": dict,
    "spark_env_vars": dict,
    "spark_version": str,
    "ssh_public_keys": list,
    "total_initial_remote_disk_size": int,
    "use_ml_runtime": bool,
    "worker_node_type_flexibility": dict,
    "workload_type": dict,
}
"""Every option that is taken, and its JSON type."""
AUTOTERMINATION = (10, 10_000)
MAX_WORKERS = 100_000


def checked(body: dict[str, Any], apart: tuple[str, ...] = ()) -> dict[str, Any]:
    """The cluster's specification in a request; `apart` are fields that are not of it.

    Raises BadRequest for a wrong type, NotImplementedHere for an option that would change what runs.
    """
    given = {name: value for name, value in body.items() if name not in apart and value is not None}
    for name, value in given.items():
        if name not in KEPT:
            raise NotImplementedHere(f"local_workspace does not have the cluster option {name}")
        kind = KEPT[name]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise BadRequest(f"{name} must be of type {kind.__name__}; got {value!r:.100}")
    return given


def complete(spec: dict[str, Any]) -> dict[str, Any]:
    """A whole specification, with what is left out filled in. Raises BadRequest."""
    version = spec.get("spark_version")
    if not version or not SPARK_VERSION.fullmatch(version):
        raise BadRequest(f"spark_version must be one that clusters/spark-versions lists; got {version!r:.100}")
    if "num_workers" in spec and "autoscale" in spec:
        raise BadRequest("only one of num_workers and autoscale can be given")
    if "autoscale" in spec:
        least, most = spec["autoscale"].get("min_workers"), spec["autoscale"].get("max_workers")
        if not isinstance(least, int) or not isinstance(most, int) or not 0 <= least <= most:
            raise BadRequest("autoscale needs min_workers and max_workers, 0 <= min_workers <= max_workers")
    elif not 0 <= spec.get("num_workers", 0) <= MAX_WORKERS:
        raise BadRequest(f"num_workers must be between 0 and {MAX_WORKERS}")
    minutes = spec.get("autotermination_minutes", 0)
    if minutes and not AUTOTERMINATION[0] <= minutes <= AUTOTERMINATION[1]:
        raise BadRequest(f"autotermination_minutes must be 0 or between {AUTOTERMINATION[0]} and {AUTOTERMINATION[1]}")
    for name in ("spark_env_vars", "spark_conf", "custom_tags"):
        if not all(isinstance(value, str) for value in spec.get(name, {}).values()):
            raise BadRequest(f"{name} must have text values")
    filled = {"cluster_name": "", "autotermination_minutes": 0} | spec
    return filled if "autoscale" in filled else {"num_workers": 0} | filled
