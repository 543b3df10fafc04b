"""Apps and their deployments as they are kept: what survives a restart."""

import json
import time
from datetime import UTC, datetime
from typing import Any

from local_workspace.errors import AlreadyExists, NotFound
from local_workspace.state import State

DDL = """
CREATE TABLE IF NOT EXISTS apps (
    name TEXT PRIMARY KEY, id TEXT NOT NULL, settings TEXT NOT NULL, client_id TEXT NOT NULL, port INTEGER NOT NULL,
    active INTEGER NOT NULL, active_deployment TEXT, creator TEXT NOT NULL, updater TEXT NOT NULL,
    create_time TEXT NOT NULL, update_time TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS app_deployments (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, app TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
    deployment_id TEXT NOT NULL UNIQUE, settings TEXT NOT NULL, state TEXT NOT NULL, message TEXT NOT NULL,
    creator TEXT NOT NULL, create_time TEXT NOT NULL, update_time TEXT NOT NULL);
"""


def timestamp() -> str:
    """Now, as the Apps API writes it."""
    return datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class AppStore:
    """Rows of apps and deployments; their `settings` are what the user gave."""

    def __init__(self, state: State):
        self._state = state
        state.create(DDL)
        state.execute(
            "UPDATE app_deployments SET state = 'FAILED', message = 'the workspace ended during the deployment'"
            " WHERE state = 'IN_PROGRESS'"
        )

    def app(self, name: str) -> dict[str, Any]:
        """One app. Raises NotFound."""
        row = self._state.row("SELECT * FROM apps WHERE name = ?", [name])
        if row is None:
            raise NotFound(f"App with name {name} does not exist or is deleted.")
        return row | {"settings": json.loads(row["settings"])}

    def apps(self) -> list[dict[str, Any]]:
        """All apps, by name."""
        rows = self._state.rows("SELECT * FROM apps ORDER BY name")
        return [row | {"settings": json.loads(row["settings"])} for row in rows]

    def add_app(
        self, name: str, app_id: str, settings: dict[str, Any], client_id: str, user: str, active: bool
    ) -> None:
        """Keep a new app. Raises AlreadyExists."""
        now = timestamp()
        added = self._state.execute(
            "INSERT OR IGNORE INTO apps VALUES (?, ?, ?, ?, 0, ?, NULL, ?, ?, ?, ?)",
            [name, app_id, json.dumps(settings), client_id, active, user, user, now, now],
        )
        if not added:
            raise AlreadyExists(f"An app with the same name already exists: {name}")

    def change_app(self, name: str, **values: Any) -> None:
        """Change columns of an app: `settings`, `port`, `active`, `active_deployment`, `updater`."""
        if "settings" in values:
            values |= {"settings": json.dumps(values["settings"]), "update_time": timestamp()}
        columns = ", ".join(f"{column} = :{column}" for column in values)
        self._state.execute(f"UPDATE apps SET {columns} WHERE name = :app", values | {"app": name})

    def delete_app(self, name: str) -> None:
        """Forget an app and its deployments."""
        self._state.execute("DELETE FROM apps WHERE name = ?", [name])

    def deployment(self, app: str, deployment_id: str) -> dict[str, Any]:
        """One deployment. Raises NotFound."""
        row = self._state.row("SELECT * FROM app_deployments WHERE app = ? AND deployment_id = ?", [app, deployment_id])
        if row is None:
            raise NotFound(f"Deployment {deployment_id} of app {app} does not exist.")
        return row | {"settings": json.loads(row["settings"])}

    def deployments(self, app: str) -> list[dict[str, Any]]:
        """The deployments of an app, newest first."""
        rows = self._state.rows("SELECT * FROM app_deployments WHERE app = ? ORDER BY sequence DESC", [app])
        return [row | {"settings": json.loads(row["settings"])} for row in rows]

    def add_deployment(self, app: str, deployment_id: str, settings: dict[str, Any], user: str) -> None:
        """Keep a deployment that is beginning."""
        now = timestamp()
        self._state.execute(
            "INSERT INTO app_deployments"
            " (app, deployment_id, settings, state, message, creator, create_time, update_time)"
            " VALUES (?, ?, ?, 'IN_PROGRESS', 'Preparing source code', ?, ?, ?)",
            [app, deployment_id, json.dumps(settings), user, now, now],
        )

    def finish_deployment(self, deployment_id: str, state: str, message: str) -> None:
        """How a deployment ended."""
        self._state.execute(
            "UPDATE app_deployments SET state = ?, message = ?, update_time = ? WHERE deployment_id = ?",
            [state, message, timestamp(), deployment_id],
        )
