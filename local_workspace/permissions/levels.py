"""The permission levels of each type of object, from the least to the most, in the words of the real service."""

from local_workspace.errors import BadRequest

MANAGE = "CAN_MANAGE"
OWNER = "IS_OWNER"
WORKSPACE_OBJECT = ("CAN_READ", "CAN_RUN", "CAN_EDIT", MANAGE)
LEVELS = {
    "alerts": WORKSPACE_OBJECT,
    "alertsv2": WORKSPACE_OBJECT,
    "apps": ("CAN_USE", MANAGE),
    "authorization": ("CAN_USE", MANAGE),
    "clusters": ("CAN_ATTACH_TO", "CAN_RESTART", MANAGE),
    "dashboards": WORKSPACE_OBJECT,
    "directories": WORKSPACE_OBJECT,
    "experiments": ("CAN_READ", "CAN_EDIT", MANAGE),
    "files": WORKSPACE_OBJECT,
    "instance-pools": ("CAN_ATTACH_TO", MANAGE),
    "jobs": ("CAN_VIEW", "CAN_MANAGE_RUN", MANAGE, OWNER),
    "notebooks": WORKSPACE_OBJECT,
    "queries": ("CAN_VIEW", "CAN_RUN", "CAN_EDIT", MANAGE),
    "registered-models": (
        "CAN_READ",
        "CAN_EDIT",
        "CAN_MANAGE_STAGING_VERSIONS",
        "CAN_MANAGE_PRODUCTION_VERSIONS",
        MANAGE,
    ),
    "serving-endpoints": ("CAN_VIEW", "CAN_QUERY", MANAGE),
    "vector-search-endpoints": ("CAN_USE", MANAGE),
    "warehouses": ("CAN_VIEW", "CAN_MONITOR", "CAN_USE", MANAGE, OWNER),
}
DESCRIPTIONS = {
    "CAN_ATTACH_TO": "Can attach to it",
    "CAN_EDIT": "Can edit it",
    MANAGE: "Can manage it and its permissions",
    "CAN_MANAGE_PRODUCTION_VERSIONS": "Can manage its production versions",
    "CAN_MANAGE_RUN": "Can trigger and cancel its runs",
    "CAN_MANAGE_STAGING_VERSIONS": "Can manage its staging versions",
    "CAN_MONITOR": "Can use it and see its monitoring",
    "CAN_QUERY": "Can query it",
    "CAN_READ": "Can read it",
    "CAN_RESTART": "Can attach to it, start it and restart it",
    "CAN_RUN": "Can read and run it",
    "CAN_USE": "Can use it",
    "CAN_VIEW": "Can view it",
    OWNER: "Is its owner",
}


def checked(object_type: str, level: object) -> str:
    """A level that the type has. Raises BadRequest."""
    known = LEVELS[object_type]
    if level not in known:
        raise BadRequest(f"permission_level of {object_type} must be one of {', '.join(known)}; got {level!r:.50}")
    return str(level)
