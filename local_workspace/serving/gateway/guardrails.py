"""Guardrails by keyword: requests and answers that hold one are refused."""

import json
from collections.abc import Iterator
from typing import Any

from local_workspace.errors import BadRequest
from local_workspace.serving.gateway.wire import GuardrailParameters, Guardrails


class Keywords:
    """The words that an endpoint's requests and answers must not hold; letter case does not count."""

    def __init__(self, settings: Guardrails | None):
        self._input = _words(settings.input if settings else None)
        self._output = _words(settings.output if settings else None)

    def check_request(self, body: dict[str, Any]) -> None:
        """Raises BadRequest for a request that holds a keyword, or whose answer could not be checked in time."""
        if self._input:
            _refuse("input", self._input, _texts(body))
        if self._output and body.get("stream"):
            raise BadRequest("output guardrails do not work on streams: send the request without stream")

    def check_answer(self, content: bytes) -> None:
        """Raises BadRequest for an answer that holds a keyword."""
        if self._output:
            _refuse("output", self._output, _texts(json.loads(content)))


def _words(parameters: GuardrailParameters | None) -> list[str]:
    return [word.casefold() for word in (parameters.invalid_keywords if parameters else None) or []]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _refuse(side: str, words: list[str], texts: Iterator[str]) -> None:
    for text in texts:
        folded = text.casefold()
        for word in words:
            if word in folded:
                raise BadRequest(
                    f"{side}_guardrail_triggered: the {side} holds the invalid keyword {word!r}",
                    error_code="BAD_REQUEST",
                )
