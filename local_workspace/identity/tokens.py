"""Personal access tokens: what is known of them but the token itself, of which only a hash is kept."""

import math
import secrets
import time
from typing import Any

from local_workspace.auth import Auth
from local_workspace.errors import BadRequest, NotFound
from local_workspace.state import State

DDL = """
CREATE TABLE IF NOT EXISTS personal_tokens (
    token_id TEXT PRIMARY KEY, hash TEXT NOT NULL, principal TEXT NOT NULL, creator TEXT NOT NULL,
    comment TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL);
"""
MAX_SECONDS = 730 * 86400
MAX_TOKENS = 600


class PersonalTokens:
    """The tokens that people and programs sign in with."""

    def __init__(self, state: State, auth: Auth):
        self._state = state
        self._auth = auth
        state.create(DDL)

    def create(self, principal: str, creator: str, lifetime: Any, comment: Any) -> tuple[str, dict[str, Any]]:
        """A new token and what is known of it; without a lifetime (s) it does not expire. Raises BadRequest."""
        if lifetime is not None and (not isinstance(lifetime, int) or not 0 < lifetime <= MAX_SECONDS):
            raise BadRequest(f"lifetime_seconds must be between 1 and {MAX_SECONDS}; got {lifetime!r:.50}")
        if not isinstance(comment, str):
            raise BadRequest("comment must be a text")
        if len(self.all(principal)) >= MAX_TOKENS:
            raise BadRequest(f"{principal} has {MAX_TOKENS} tokens: revoke some", error_code="QUOTA_EXCEEDED")
        now = time.time()
        expires = now + lifetime if lifetime else math.inf
        with self._state.transaction():
            token, token_hash = self._auth.create_token(principal, expires)
            token_id = secrets.token_hex(32)
            shown = int(expires * 1000) if lifetime else -1
            row = [token_id, token_hash, principal, creator, comment, int(now * 1000), shown]
            self._state.execute("INSERT INTO personal_tokens VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return token, self.get(token_id)

    def all(self, principal: str | None = None) -> list[dict[str, Any]]:
        """The tokens of a principal, or of everybody, that have not expired, newest first."""
        return self._state.rows(
            "SELECT * FROM personal_tokens WHERE (:principal IS NULL OR principal = :principal)"
            " AND (expires_at = -1 OR expires_at > :now) ORDER BY created_at DESC, token_id",
            {"principal": principal, "now": int(time.time() * 1000)},
        )

    def get(self, token_id: Any, principal: str | None = None) -> dict[str, Any]:
        """One token, of `principal` if that is given. Raises NotFound."""
        for row in self.all(principal):
            if row["token_id"] == token_id:
                return row
        raise NotFound(f"Token with ID {token_id!s:.80} does not exist!")

    def delete(self, token_id: Any, principal: str | None = None) -> None:
        """Revoke a token. Raises NotFound."""
        row = self.get(token_id, principal)
        with self._state.transaction():
            self._auth.delete_token(row["hash"])
            self._state.execute("DELETE FROM personal_tokens WHERE token_id = ?", [token_id])
