"""Rate limits: calls and tokens within the last minute, counted for the endpoint or for each who calls."""

import time
from collections import deque
from collections.abc import Callable, Iterator

from local_workspace.auth import Principal
from local_workspace.errors import ApiError
from local_workspace.serving.gateway.wire import RateLimit

PERIOD = 60.0


class TooMany(ApiError):
    """A rate limit is used up; `Retry-After` says for how long."""

    status, error_code = 429, "REQUEST_LIMIT_EXCEEDED"


class Window:
    """An amount of the last minute."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._parts: deque[tuple[float, int]] = deque()
        self._total = 0

    def add(self, amount: int) -> None:
        """Count something now."""
        self._parts.append((self._clock(), amount))
        self._total += amount

    def wait(self, limit: int) -> float | None:
        """None while less than `limit` was counted, else the seconds until that is so again."""
        now = self._clock()
        while self._parts and self._parts[0][0] <= now - PERIOD:
            self._total -= self._parts.popleft()[1]
        if self._total < limit:
            return None
        left = self._total
        for then, amount in self._parts:
            left -= amount
            if left < limit:
                return then + PERIOD - now
        return PERIOD  # a limit of nothing


class Limits:
    """The rate limits of one endpoint; they start anew with the workspace or when they are changed.

    A limit for one principal stands in place of the limit for every user.
    """

    def __init__(self, endpoint: str, limits: list[RateLimit], clock: Callable[[], float] = time.monotonic):
        self._endpoint = endpoint
        self._limits = limits
        self._clock = clock
        self._windows: dict[tuple[str, str, str], Window] = {}

    def admit(self, caller: Principal) -> None:
        """Count a call. Raises TooMany, and counts nothing then."""
        held = list(self._of(caller))
        for limit, window, unit, amount in held:
            if (seconds := window.wait(amount)) is not None:
                whom = f" for {caller.name}" if limit.key != "endpoint" else ""
                raise TooMany(
                    f"REQUEST_LIMIT_EXCEEDED: endpoint '{self._endpoint}' allows {amount} {unit} per minute{whom}; "
                    f"try again in {int(seconds) + 1} s",
                    headers={"Retry-After": str(int(seconds) + 1)},
                )
        for _, window, unit, _ in held:
            if unit == "calls":
                window.add(1)

    def spend(self, caller: Principal, tokens: int) -> None:
        """Count the tokens of a call that has been answered."""
        for _, window, unit, _ in self._of(caller):
            if unit == "tokens":
                window.add(tokens)

    @property
    def count_tokens(self) -> bool:
        """Whether a limit is in tokens."""
        return any(limit.tokens is not None for limit in self._limits)

    def _of(self, caller: Principal) -> Iterator[tuple[RateLimit, Window, str, int]]:
        own = [limit for limit in self._limits if (limit.key, limit.principal) == (caller.kind, caller.name)]
        each = own or [limit for limit in self._limits if limit.key == "user" and not limit.principal]
        for limit in [limit for limit in self._limits if limit.key == "endpoint"] + each:
            counted = "" if limit.key == "endpoint" else caller.name
            for unit, amount in (("calls", limit.calls), ("tokens", limit.tokens)):
                if amount is not None:
                    window = self._windows.setdefault((limit.key, counted, unit), Window(self._clock))
                    yield limit, window, unit, amount
