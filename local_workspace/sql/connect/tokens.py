"""Who calls the Spark Connect service: asked of the workspace, which knows its tokens."""

import threading
import time

import httpx

KNOWN_SECONDS = 5.0
"""How long an answer is remembered; after that a token that was taken back is refused."""


class Tokens:
    """The users behind `authorization` headers."""

    def __init__(self, host: str):
        self._http = httpx.Client(base_url=host, timeout=60)
        self._known: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def known(self, authorization: str) -> str | None:
        """The user's name if it was asked for a moment ago."""
        user, since = self._known.get(authorization, (None, 0.0))
        return user if time.monotonic() - since < KNOWN_SECONDS else None

    def user(self, authorization: str) -> str | None:
        """The user's name; None when the workspace does not take the header."""
        answer = self._http.get("/api/2.0/preview/scim/v2/Me", headers={"Authorization": authorization})
        if not answer.is_success:
            return None
        name: str = answer.json()["userName"]
        now = time.monotonic()
        with self._lock:
            self._known = {key: kept for key, kept in self._known.items() if now - kept[1] < KNOWN_SECONDS}
            self._known[authorization] = (name, now)
        return name
