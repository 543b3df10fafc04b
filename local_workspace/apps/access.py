"""Who may call an app, and what the app is told about the caller.

On Databricks, a browser comes with the session of its single sign-on and a program with a token. Here, a program comes
with a token as well, and a request without one counts as the user this workspace belongs to: it must name a loopback
host (so that no web page can rebind its own name to us) and must not come from another origin.
"""

import uuid

from local_workspace.auth import SESSION_COOKIE, Auth, Principal
from local_workspace.errors import Forbidden

Headers = list[tuple[bytes, bytes]]

# RFC 9110, 7.6.1: meant for one connection, not for the next.
HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te"}
HOP_BY_HOP |= {b"trailer", b"upgrade"}
# Said by the proxy alone, or (the token) meant for the proxy alone.
OWN = {b"authorization", b"expect", b"x-real-ip", b"x-request-id"}


def admit(headers: Headers, port: int, auth: Auth) -> Principal:
    """The caller of an app. Raises Unauthenticated for a wrong token, Forbidden for another host or origin."""
    fields = dict(headers)
    if b"authorization" in fields:
        return auth.principal(fields[b"authorization"].decode("latin-1"))
    host = fields.get(b"host", b"").decode("latin-1").lower()
    if host not in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"):
        raise Forbidden(f"Without a token, an app is called by its own address http://127.0.0.1:{port} only.")
    if fields.get(b"origin", b"").decode("latin-1").lower() not in ("", f"http://{host}"):
        raise Forbidden("Without a token, an app is not called from the pages of another origin.")
    return auth.owner()


def _without_session(cookies: bytes) -> bytes:
    """A Cookie header without the session of the workspace's own pages: browsers send it to every port."""
    return b"; ".join(c for c in cookies.split(b"; ") if not c.startswith(f"{SESSION_COOKIE}=".encode()))


def forwarded(headers: Headers, caller: Principal, port: int, peer: str) -> Headers:
    """The headers the app gets: the client's without those of the connection and the token, with the platform's."""
    fields = dict(headers)
    dropped = HOP_BY_HOP | OWN | {name.strip().lower() for name in fields.get(b"connection", b"").split(b",")}
    if b"transfer-encoding" in fields:  # RFC 9112, 6.3: it overrides the length
        dropped |= {b"content-length"}
    kept = [(name, value) for name, value in headers if name not in dropped and not name.startswith(b"x-forwarded-")]
    kept = [(name, _without_session(value) if name == b"cookie" else value) for name, value in kept]
    if b"host" not in fields:
        kept.append((b"Host", f"127.0.0.1:{port}".encode()))
    if b"upgrade" in fields:
        kept += [(b"Connection", b"Upgrade"), (b"Upgrade", fields[b"upgrade"])]
    said = {
        "X-Forwarded-Host": fields.get(b"host", b"").decode("latin-1"),
        "X-Forwarded-User": caller.name,
        "X-Forwarded-Email": caller.name,
        "X-Forwarded-Preferred-Username": caller.display_name,
        "X-Real-Ip": peer,
        "X-Request-Id": str(uuid.uuid4()),
    }
    return kept + [(name.encode(), value.encode("latin-1", "replace")) for name, value in said.items()]
