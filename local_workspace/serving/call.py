"""One request to an endpoint: who asks what, and what is counted and recorded of it in the end."""

import json
import time
import uuid
from typing import Any

from fastapi import Request

from local_workspace.auth import Principal
from local_workspace.errors import BadRequest
from local_workspace.serving.gateway.records import Records
from local_workspace.serving.gateway.tables import MAX_PAYLOAD, USAGE_TABLE, moment, payload
from local_workspace.serving.traffic import Destination, Gateway

CLIENT_CLOSED_REQUEST = 499


class Call:
    """A request from its arrival to its record."""

    def __init__(self, request: Request, body: dict[str, Any], gateway: Gateway, workspace_id: str):
        self.id = str(uuid.uuid4())
        self.caller: Principal = request.state.principal
        self.body = body
        self.gateway = gateway
        self.tokens = (0, 0)
        self.served: Destination | None = None
        self._workspace_id = workspace_id
        self._text = json.dumps(body, ensure_ascii=False) if gateway.table else None
        self._time, self._started = time.time(), time.perf_counter()
        # What Databricks keeps for its own records is not passed on.
        self._client_request_id = _text("client_request_id", body.pop("client_request_id", None))
        self._context = _context(body.pop("usage_context", None))
        self.streams = body.get("stream") is True

    @property
    def keeps_answer(self) -> bool:
        """Whether the answer's text is recorded."""
        return self.gateway.table is not None

    def done(self, records: Records, status: int, answer: bytes | None) -> None:
        """Count and record the call; `answer` is what was sent, if it is known."""
        gateway, milliseconds = self.gateway, (time.perf_counter() - self._started) * 1000
        gateway.metrics.count(status, milliseconds, *self.tokens)
        if gateway.limits.count_tokens:
            gateway.limits.spend(self.caller, sum(self.tokens))
        row = {
            "client_request_id": self._client_request_id,
            "databricks_request_id": self.id,
            "status_code": status,
            "served_entity_id": self.served.id if self.served else None,
            "requester": self.caller.name,
        }
        if gateway.table:
            codes: list[str] = []
            text = None if answer is None else answer[: MAX_PAYLOAD * 4].decode(errors="replace")
            taken = {
                "request": payload(self._text, "REQUEST", codes),
                "response": payload(text, "RESPONSE", codes),
                "logging_error_codes": codes,
                "sampling_fraction": 1.0,
                "execution_duration_ms": round(milliseconds),
            }
            records.add(gateway.table, row | moment(self._time) | taken)
        if gateway.usage:
            usage = {
                "workspace_id": self._workspace_id,
                "request_time": moment(self._time)["request_time"],
                "input_token_count": self.tokens[0],
                "output_token_count": self.tokens[1],
                "usage_context": self._context,
                "request_streaming": self.streams,
                "endpoint_name": gateway.metrics.endpoint,
                "served_entity_name": self.served.served_entity if self.served else None,
            }
            records.add(USAGE_TABLE, row | usage)


def _text(field: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"{field} must be a string", error_code="BAD_REQUEST")
    return value


def _context(value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise BadRequest("usage_context must be an object of strings", error_code="BAD_REQUEST")
    return value
