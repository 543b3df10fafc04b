"""Who is calling: personal access token or a service principal's OAuth token."""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass

from local_workspace.errors import Unauthenticated
from local_workspace.state import State

OPEN_PATHS = ("/.well-known/", "/oidc/", "/health", "/ui/", "/local/faults", "/signed/")
"""What asks for no token, or, as the pages do, for a session."""
TOKEN_SECONDS = 3600
SESSION_COOKIE = "local_workspace_session"
"""Of a browser that looks at the pages. Cookies know no ports: the proxy of an app leaves it out."""

DDL = """
CREATE TABLE IF NOT EXISTS principals (
    name TEXT PRIMARY KEY, kind TEXT NOT NULL, client_id TEXT UNIQUE, secret_hash TEXT, display_name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tokens (hash TEXT PRIMARY KEY, principal TEXT NOT NULL, expires_at REAL);
"""


@dataclass(frozen=True)
class Principal:
    """A user or service principal."""

    name: str
    """User name (an e-mail address), or the application id of a service principal."""
    kind: str
    """`user` or `service_principal`."""
    display_name: str


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


class Auth:
    """Principals and tokens; only hashes are kept."""

    OWNER = "developer@local.workspace"

    def __init__(self, state: State, token: str):
        self._state = state
        state.create(DDL)
        self._lent: dict[str, str] = {}
        state.execute(
            "INSERT OR IGNORE INTO principals VALUES (?, 'user', NULL, NULL, 'Local Developer')", [self.OWNER]
        )
        state.execute("DELETE FROM tokens WHERE principal = ? AND expires_at IS NULL", [self.OWNER])
        state.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?, NULL)", [_hash(token), self.OWNER])

    def principal(self, authorization: str | None) -> Principal:
        """The caller named by an `Authorization` header. Raises Unauthenticated."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("Credential was not sent or was of an unsupported type for this API.")
        row = self._state.row(
            "SELECT p.*, t.expires_at FROM tokens t JOIN principals p ON p.name = t.principal WHERE t.hash = ?",
            [_hash(token.strip())],
        )
        if row is None and (name := self._lent.get(_hash(token.strip()))):
            row = self._state.row("SELECT *, NULL AS expires_at FROM principals WHERE name = ?", [name])
        if row is None or (row["expires_at"] is not None and row["expires_at"] < time.time()):
            raise Unauthenticated("Invalid access token.")
        return Principal(row["name"], row["kind"], row["display_name"])

    def create_service_principal(self, display_name: str) -> tuple[str, str]:
        """A new service principal's client id and secret; the secret cannot be read again."""
        client_id, secret = secrets.token_hex(16), "dose" + secrets.token_hex(16)
        self._state.execute(
            "INSERT INTO principals VALUES (?, 'service_principal', ?, ?, ?)",
            [client_id, client_id, _hash(secret), display_name],
        )
        return client_id, secret

    def renew_secret(self, client_id: str) -> str:
        """A new secret for a service principal in place of the old one. Raises KeyError when there is none."""
        secret = "dose" + secrets.token_hex(16)
        update = "UPDATE principals SET secret_hash = ? WHERE client_id = ?"
        if not self._state.execute(update, [_hash(secret), client_id]):
            raise KeyError(client_id)
        return secret

    def owner(self) -> Principal:
        """The user this workspace belongs to."""
        row = self._state.rows("SELECT * FROM principals WHERE name = ?", [self.OWNER])[0]
        return Principal(row["name"], row["kind"], row["display_name"])

    def create_user(self, name: str, display_name: str) -> bool:
        """A new user; False when there is one of that name."""
        insert = "INSERT OR IGNORE INTO principals VALUES (?, 'user', NULL, NULL, ?)"
        return self._state.execute(insert, [name, display_name]) > 0

    def delete_principal(self, name: str) -> None:
        """Forget a user or service principal and its tokens."""
        self._state.execute("DELETE FROM tokens WHERE principal = ?", [name])
        self._state.execute("DELETE FROM principals WHERE name = ?", [name])

    def create_token(self, principal: str, expires_at: float) -> tuple[str, str]:
        """A personal access token, and the hash by which it is known."""
        token = "dapi" + secrets.token_hex(16)
        self._state.execute("INSERT INTO tokens VALUES (?, ?, ?)", [_hash(token), principal, expires_at])
        return token, _hash(token)

    def delete_token(self, token_hash: str) -> None:
        """Revoke a token."""
        self._state.execute("DELETE FROM tokens WHERE hash = ?", [token_hash])

    def exists(self, name: str) -> bool:
        """Whether there is a principal of this name."""
        return self._state.row("SELECT 1 FROM principals WHERE name = ?", [name]) is not None

    def lend(self, principal: str) -> str:
        """A token for a child process that runs a principal's code. It is good until it is given back or we end."""
        token = "dapi" + secrets.token_hex(16)
        self._lent[_hash(token)] = principal
        return token

    def give_back(self, token: str) -> None:
        """Revoke a token that was lent."""
        self._lent.pop(_hash(token), None)

    def issue(self, client_id: str, secret: str) -> tuple[str, int]:
        """An access token for client credentials (RFC 6749, 4.4) and its seconds to live. Raises Unauthenticated."""
        row = self._state.row("SELECT name, secret_hash FROM principals WHERE client_id = ?", [client_id])
        if row is None or not hmac.compare_digest(row["secret_hash"], _hash(secret)):
            raise Unauthenticated("Client authentication failed.", error_code="invalid_client")
        token = "eyl" + secrets.token_urlsafe(32)
        self._state.execute("DELETE FROM tokens WHERE expires_at < ?", [time.time()])
        expires_at = time.time() + TOKEN_SECONDS
        self._state.execute("INSERT INTO tokens VALUES (?, ?, ?)", [_hash(token), row["name"], expires_at])
        return token, TOKEN_SECONDS


class RequireToken:
    """ASGI middleware: every call but discovery and token endpoints needs a valid token; sets `state.principal`."""

    def __init__(self, app, auth: Auth):
        self.app = app
        self.auth = auth

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http" and scope["path"] != "/" and not scope["path"].startswith(OPEN_PATHS):
            authorization = dict(scope["headers"]).get(b"authorization")
            try:
                principal = self.auth.principal(authorization.decode("latin-1") if authorization else None)
            except Unauthenticated as error:
                await error.response()(scope, receive, send)
                return
            scope.setdefault("state", {})["principal"] = principal
        await self.app(scope, receive, send)
