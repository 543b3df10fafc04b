"""Links to results that need no token: signed, and good for a few minutes."""

import hashlib
import hmac
import time
from datetime import UTC, datetime

from local_workspace.errors import Forbidden

PREFIX = "/signed/statements"
LINK_SECONDS = 900


class Links:
    """Links to the chunks of results; they outlive a restart."""

    def __init__(self, host: str, key: str):
        self._host = host
        self._key = key.encode()

    def _signature(self, statement_id: str, chunk: int, expires: int) -> str:
        return hmac.new(self._key, f"{statement_id}/{chunk}/{expires}".encode(), hashlib.sha256).hexdigest()

    def make(self, statement_id: str, chunk: int) -> tuple[str, str]:
        """A link to a chunk, and the moment when it ends."""
        expires = int(time.time()) + LINK_SECONDS
        signature = self._signature(statement_id, chunk, expires)
        link = f"{self._host}{PREFIX}/{statement_id}/{chunk}?expires={expires}&signature={signature}"
        return link, datetime.fromtimestamp(expires, UTC).isoformat().replace("+00:00", "Z")

    def check(self, statement_id: str, chunk: int, expires: int, signature: str) -> None:
        """Raises Forbidden for a link that is not of this workspace, or no longer good."""
        if not hmac.compare_digest(signature, self._signature(statement_id, chunk, expires)):
            raise Forbidden("The signature of the link is not valid.")
        if time.time() > expires:
            raise Forbidden("The link has expired: get the chunk again for a new one.")
