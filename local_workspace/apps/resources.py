"""An app's resources: what they must say, and what `valueFrom` gives for each."""

from collections.abc import Callable
from typing import Any

from local_workspace.apps.manifest import Variable
from local_workspace.errors import BadRequest, NotImplementedHere

FIELDS = {
    "secret": ("scope", "key"),
    "serving_endpoint": ("name",),
    "sql_warehouse": ("id",),
    "job": ("id",),
    "uc_securable": ("securable_full_name", "securable_type"),
}


def check_resources(resources: Any) -> list[dict[str, Any]]:
    """The resources of an app object. Raises BadRequest naming what is wrong, NotImplementedHere for other kinds."""
    if not isinstance(resources, list):
        raise BadRequest("resources must be a list")
    names = set()
    for resource in resources:
        name = resource.get("name") if isinstance(resource, dict) else None
        if not isinstance(name, str) or not name:
            raise BadRequest("resources: each must have a name")
        if name in names:
            raise BadRequest(f"resources: there are two called {name!r}")
        names.add(name)
        kinds = resource.keys() - {"name", "description"}
        if len(kinds) != 1:
            raise BadRequest(f"resource {name!r} must be of exactly one kind, such as secret or serving_endpoint")
        (kind,) = kinds
        if kind not in FIELDS:
            raise NotImplementedHere(f"local_workspace does not have app resources of the kind {kind}")
        missing = [field for field in FIELDS[kind] if not (resource[kind] or {}).get(field)]
        if missing:
            raise BadRequest(f"resource {name!r}: {kind} must have {', '.join(missing)}")
    return resources


def environment(
    variables: list[Variable], resources: list[dict[str, Any]], secret: Callable[[str, str], bytes]
) -> dict[str, str]:
    """The variables with their values. `secret` gives a secret's value. Raises BadRequest, NotFound."""
    by_name = {resource["name"]: resource for resource in resources}
    values = {}
    for variable in variables:
        if variable.value_from is None:
            values[variable.name] = variable.value or ""
        elif variable.value_from in by_name:
            values[variable.name] = _value(by_name[variable.value_from], secret)
        else:
            known = ", ".join(sorted(by_name)) or "none"
            raise BadRequest(
                f"env {variable.name}: the app has no resource {variable.value_from!r}; its resources: {known}"
            )
    return values


def _value(resource: dict[str, Any], secret: Callable[[str, str], bytes]) -> str:
    if "secret" in resource:
        return secret(resource["secret"]["scope"], resource["secret"]["key"]).decode(errors="replace")
    if "serving_endpoint" in resource:
        return str(resource["serving_endpoint"]["name"])
    if "uc_securable" in resource:
        name, kind = resource["uc_securable"]["securable_full_name"], resource["uc_securable"]["securable_type"]
        return f"/Volumes/{name.replace('.', '/')}" if kind == "VOLUME" else str(name)
    return str((resource.get("sql_warehouse") or resource["job"])["id"])
