"""Fault rules: which requests go wrong, how, and how often. They live in memory: a restart is a clean start."""

import itertools
import random
import re
from collections.abc import Iterator
from fnmatch import translate
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from starlette.routing import PARAM_REGEX, compile_path

NEEDS = {"jitter_ms": "latency_ms", "retry_after": "status", "error_code": "status", "after_bytes": "drop"}
"""A detail of a fault, and the fault it belongs to."""


class Rule(BaseModel):
    """Requests to a path, and one fault for them: `latency_ms`, `status` or `drop`."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(max_length=1000)
    """A route's template such as `/api/2.1/jobs/{job_id}`, or a glob such as `/api/2.0/fs/*` (`*` takes slashes)."""
    method: str | None = Field(None, pattern="^[A-Z]+$")
    rate: float = Field(1.0, ge=0, le=1)
    """The share of the matching requests that it strikes."""
    seed: int = 0
    """Which requests those are is the same for the same seed."""
    times: int | None = Field(None, ge=1)
    """It strikes at most so often."""
    latency_ms: float | None = Field(None, ge=0, le=600_000)
    jitter_ms: float | None = Field(None, ge=0, le=600_000)
    """Latency differs by up to so much, either way."""
    status: int | None = Field(None, ge=400, le=599)
    retry_after: int | None = Field(None, ge=0)
    """Seconds in the Retry-After header."""
    error_code: str | None = Field(None, pattern="^[A-Z_]+$")
    drop: Literal["request", "response"] | None = None
    """`request`: the connection is lost before the operation has its whole body; `response`: the operation runs, but
    its answer is lost."""
    after_bytes: int | None = Field(None, ge=0)
    """How much of the body passes before the connection is lost; 0: nothing, not even the head of an answer."""

    @field_validator("path")
    @classmethod
    def _matchable(cls, path: str) -> str:
        if not path.startswith("/"):
            raise ValueError("it must begin with /")
        pattern(path)
        return path

    @model_validator(mode="after")
    def _one_fault(self) -> "Rule":
        if sum(fault is not None for fault in (self.latency_ms, self.status, self.drop)) != 1:
            raise ValueError("exactly one of latency_ms, status and drop is needed")
        for detail, fault in NEEDS.items():
            if getattr(self, detail) is not None and getattr(self, fault) is None:
                raise ValueError(f"{detail} needs {fault}")
        return self


def pattern(path: str) -> re.Pattern[str]:
    """What a rule's path matches. Raises ValueError."""
    if "{" not in path:
        return re.compile(translate(path))
    if "{" in PARAM_REGEX.sub("", path):
        raise ValueError("a brace is not closed")
    try:
        return compile_path(path)[0]
    except (AssertionError, KeyError) as error:
        raise ValueError(f"it is no route template: {error}") from error


class ActiveRule:
    """A rule at work."""

    def __init__(self, identifier: str, rule: Rule):
        self.id = identifier
        self.rule = rule
        self._pattern = pattern(rule.path)
        self._random = random.Random(rule.seed)  # noqa: S311 - no secret: it must be repeatable
        self._matched = 0
        self._hits = 0

    def strikes(self, method: str, path: str) -> bool:
        """Whether this request goes wrong; it is counted."""
        rule = self.rule
        if (rule.method and rule.method != method) or not self._pattern.match(path):
            return False
        self._matched += 1
        if rule.times is not None and self._hits >= rule.times:
            return False
        if self._random.random() >= rule.rate:
            return False
        self._hits += 1
        return True

    def delay(self) -> float:
        """Seconds to wait."""
        jitter = self.rule.jitter_ms or 0
        return max(0.0, (self.rule.latency_ms or 0) + self._random.uniform(-jitter, jitter)) / 1000

    def shown(self) -> dict[str, Any]:
        """The rule and its counts: requests that matched, and those it struck."""
        counts = {"id": self.id, "matched": self._matched, "hits": self._hits}
        return counts | self.rule.model_dump(exclude_none=True)


class Faults:
    """The rules of a workspace, in the order they were added."""

    def __init__(self) -> None:
        self.rules: dict[str, ActiveRule] = {}
        self._numbers = itertools.count(1)

    def add(self, rule: Rule) -> ActiveRule:
        """Put a rule to work."""
        active = ActiveRule(str(next(self._numbers)), rule)
        self.rules[active.id] = active
        return active

    def striking(self, method: str, path: str) -> Iterator[ActiveRule]:
        """The rules that strike a request: latency as often as there is, one other fault at most."""
        for active in list(self.rules.values()):
            if active.strikes(method, path):
                yield active
                if active.rule.latency_ms is None:
                    return
