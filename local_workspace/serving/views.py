"""Endpoints as the API shows them. Keys given in plain text are never shown."""

from typing import Any

from local_workspace.secrets.references import without_plaintext
from local_workspace.serving.service import CREATING, FAILED, Serving
from local_workspace.serving.store import UPDATE_FAILED, Endpoint

SUMMARY = ("name", "entity_name", "entity_version", "external_model")


def summary(serving: Serving, endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint in the list."""
    config = endpoint.config or endpoint.pending or {"served_entities": []}
    entities = [{f: v for f, v in entity.items() if f in SUMMARY} for entity in _entities(config)]
    shown = {
        "name": endpoint.name,
        "id": endpoint.id,
        "creator": endpoint.creator,
        "creation_timestamp": endpoint.created_at,
        "last_updated_timestamp": endpoint.updated_at,
        "description": endpoint.description or "",
        "state": {"ready": "READY" if endpoint.config else "NOT_READY", "config_update": endpoint.config_update},
        "config": {"served_entities": entities},
        "tags": endpoint.tags,
        "task": config.get("task"),
        "ai_gateway": endpoint.ai_gateway,
        "budget_policy_id": endpoint.settings.get("budget_policy_id"),
    }
    return {name: value for name, value in shown.items() if value is not None}


def detailed(serving: Serving, endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint with what it serves and what it shall serve next."""
    answer = summary(serving, endpoint) | {"permission_level": "CAN_MANAGE", "route_optimized": False}
    if "email_notifications" in endpoint.settings:
        answer["email_notifications"] = endpoint.settings["email_notifications"]
    del answer["config"]
    if endpoint.config:
        states = {e["name"]: serving.deployment(endpoint, e) for e in endpoint.config["served_entities"]}
        answer["config"] = _config(endpoint, endpoint.config, states, endpoint.config_version)
    if endpoint.pending:
        default = [FAILED, endpoint.message] if endpoint.config_update == UPDATE_FAILED else [CREATING, ""]
        progress = endpoint.settings.get("progress") or {}
        states = {e["name"]: progress.get(e["name"], default) for e in endpoint.pending["served_entities"]}
        pending = _config(endpoint, endpoint.pending, states, endpoint.config_version + 1)
        answer["pending_config"] = pending | {"start_time": endpoint.updated_at}
    return answer


def _config(endpoint: Endpoint, config: dict[str, Any], states: dict[str, Any], version: int) -> dict[str, Any]:
    entities = []
    for entity in _entities(config):
        deployment, message = states[entity["name"]]
        facts = {"creator": endpoint.creator, "creation_timestamp": endpoint.updated_at}
        state = {"deployment": deployment, "deployment_state_message": message}
        entities.append(entity | facts | {"state": state})
    return {"served_entities": entities, "traffic_config": config["traffic_config"], "config_version": version}


def _entities(config: dict[str, Any]) -> list[dict[str, Any]]:
    return without_plaintext(config["served_entities"])
