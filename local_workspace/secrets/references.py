"""Secrets in serving configurations: `{{secrets/scope/key}}` in place of a value, or the value in plain text."""

import re
from collections.abc import Callable
from typing import Any

from local_workspace.errors import BadRequest
from local_workspace.secrets.store import Secrets

SECRET = re.compile(r"\{\{secrets/([^/{}]+)/([^{}]+)\}\}")


class References:
    """Reads secrets when they are needed, so that a changed one counts at once."""

    def __init__(self, secrets: Secrets):
        self._secrets = secrets

    def value(self, text: str) -> str:
        """The secret that `text` refers to, else `text`. Raises NotFound."""
        found = SECRET.fullmatch(text)
        return self._secrets.value(*found.groups()).decode().strip() if found else text

    def key(self, config: dict[str, Any], field: str) -> Callable[[], str | None]:
        """What reads the key that `config` has as `field` or as `field_plaintext`. Raises BadRequest."""
        reference, plaintext = config.get(field), config.get(f"{field}_plaintext")
        if reference and plaintext:
            raise BadRequest(f"{field} and {field}_plaintext: give one of them")
        if reference and not SECRET.fullmatch(reference):
            raise BadRequest(
                f"{field} must look like {{{{secrets/scope/key}}}}; a key itself goes into {field}_plaintext"
            )
        return lambda: self.value(reference) if reference else plaintext


def without_plaintext(value: Any) -> Any:
    """`value` without the keys that were given in plain text, at any depth."""
    if isinstance(value, dict):
        return {name: without_plaintext(item) for name, item in value.items() if not name.endswith("_plaintext")}
    return [without_plaintext(item) for item in value] if isinstance(value, list) else value
