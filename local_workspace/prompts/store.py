"""Prompts of Unity Catalog and their versions, which never change."""

import json
from typing import Any

from local_workspace.errors import AlreadyExists, BadRequest
from local_workspace.models.versions import Version, Versions
from local_workspace.prompts.search import matcher
from local_workspace.state import State
from local_workspace.unity_catalog.store import CatalogStore, SecurableExists

KIND = "prompt"


class Prompts:
    """The prompt registry."""

    def __init__(self, state: State, catalog: CatalogStore):
        self._catalog = catalog
        self.versions = Versions(state, catalog, KIND)

    def create(self, full_name: str, by: str, tags: dict[str, str], comment: str | None) -> dict[str, Any]:
        """A new prompt without versions. Raises AlreadyExists, NotFound for its schema, BadRequest."""
        try:
            return self.versions.create_securable(full_name, by, tags, comment)
        except SecurableExists as error:
            # The very code by which MLflow's client sees that only a version is to be added.
            raise AlreadyExists(error.message, error_code="ALREADY_EXISTS") from error

    def update(self, full_name: str, by: str, comment: str | None) -> dict[str, Any]:
        """The prompt with another description. Raises NotFound."""
        return self._catalog.update(KIND, self.versions.securable(full_name)["full_name"], by, comment=comment)

    def delete(self, full_name: str) -> None:
        """Forget a prompt. Raises NotFound, BadRequest while it has versions."""
        if self.versions.page(full_name, 1):
            raise BadRequest(f"Prompt '{full_name}' still has versions: delete them first.")
        self._catalog.delete(KIND, full_name)

    def add_version(self, full_name: str, by: str, template: str, tags: dict[str, str], comment: str | None) -> Version:
        """A new version with the next number. Raises NotFound, BadRequest when the template is none."""
        try:
            content = json.loads(template)
        except (ValueError, RecursionError):
            raise BadRequest("template must be JSON: an encoded string, or a list of chat messages") from None
        messages = content if isinstance(content, list) else []
        if not isinstance(content, str) and not (messages and all(isinstance(m, dict) for m in messages)):
            raise BadRequest("template must be an encoded string, or a list of chat messages")
        return self.versions.add(full_name, by, tags, template=template, comment=comment)

    def search(self, catalog: str, schema: str, text: str, after: str, limit: int) -> list[dict[str, Any]]:
        """Prompts of a schema that a filter matches, by name, that come after one of them. Raises NotFound."""
        self._catalog.get("schema", f"{catalog}.{schema}")
        wanted = matcher(text)
        found = self.versions.page_of_securables(catalog, schema, after)
        return [r for r in found if wanted(r["full_name"], self.versions.tags(r["id"]))][:limit]
