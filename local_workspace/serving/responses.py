"""OpenAI's Responses API on top of a chat model: what is asked, and the whole answer."""

import json
import time
import uuid
from typing import Any, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr, ValidationError

from local_workspace.errors import BadRequest, NotImplementedHere
from local_workspace.serving.body import Body

TEXT_PARTS = ("input_text", "output_text", "text")


class ResponsesRequest(Body):
    """What a chat model can do of the Responses API."""

    input: StrictStr | list[dict[str, Any]]
    instructions: StrictStr | None = None
    max_output_tokens: StrictInt | None = Field(None, ge=1)
    temperature: StrictFloat | None = Field(None, ge=0, le=2)
    top_p: StrictFloat | None = Field(None, ge=0, le=1)
    text: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: StrictStr | dict[str, Any] | None = None
    parallel_tool_calls: StrictBool | None = None
    stream: StrictBool | None = None
    metadata: dict[str, StrictStr] | None = None
    user: StrictStr | None = None
    store: Literal[False] | None = None
    background: Literal[False] | None = None
    truncation: Literal["disabled"] | None = None


KEPT = ("store", "background", "truncation")
"""What would change how an answer is kept or made: only its plainest value is here."""


def parsed(body: dict[str, Any]) -> ResponsesRequest:
    """The request. Raises BadRequest or NotImplementedHere naming the field."""
    try:
        return ResponsesRequest.model_validate(body)
    except ValidationError as error:
        for problem in error.errors():
            if problem["loc"][:1] and problem["loc"][0] in KEPT:
                raise NotImplementedHere(
                    f"{problem['loc'][0]}={body[problem['loc'][0]]!r} is not available: responses are not kept"
                ) from error
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadRequest(problems, error_code="BAD_REQUEST") from error


def chat_request(asked: ResponsesRequest) -> dict[str, Any]:
    """The same as a chat request. Raises BadRequest, NotImplementedHere."""
    messages = [{"role": "system", "content": asked.instructions}] if asked.instructions else []
    items = [{"role": "user", "content": asked.input}] if isinstance(asked.input, str) else asked.input
    for item in items:
        _add(messages, item)
    chat = {
        "messages": messages,
        "max_tokens": asked.max_output_tokens,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "stream": asked.stream,
        "response_format": _response_format((asked.text or {}).get("format")),
        "tools": [_tool(tool) for tool in asked.tools] if asked.tools else None,
        "tool_choice": _tool_choice(asked.tool_choice),
        "parallel_tool_calls": asked.parallel_tool_calls if asked.tools else None,
        "stream_options": {"include_usage": True} if asked.stream else None,
    }
    return {name: value for name, value in chat.items() if value is not None}


def _add(messages: list[dict[str, Any]], item: dict[str, Any]) -> None:
    kind = item.get("type", "message")
    if kind == "message":
        messages.append({"role": item.get("role"), "content": _content(item.get("content"))})
    elif kind == "function_call":
        call = {"name": item.get("name"), "arguments": item.get("arguments")}
        calls = [{"id": item.get("call_id"), "type": "function", "function": call}]
        if messages and messages[-1].get("tool_calls"):
            messages[-1]["tool_calls"] += calls
        else:
            messages.append({"role": "assistant", "content": None, "tool_calls": calls})
    elif kind == "function_call_output":
        output = item.get("output")
        text = output if isinstance(output, str) else json.dumps(output)
        messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": text})
    else:
        raise NotImplementedHere(f"input items of the type {kind!r} are not available on a chat model")


def _content(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in TEXT_PARTS:
            raise NotImplementedHere(f"input content of the type {kind!r} is not available on a chat model")
    return "".join(str(part.get("text", "")) for part in content)


def _response_format(wanted: Any) -> dict[str, Any] | None:
    if not isinstance(wanted, dict) or wanted.get("type") == "text":
        return None
    if wanted.get("type") != "json_schema":
        return wanted
    schema = {name: value for name, value in wanted.items() if name != "type"}
    return {"type": "json_schema", "json_schema": schema}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise NotImplementedHere(f"tools of the type {tool.get('type')!r} are not available on a chat model")
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}


def _tool_choice(choice: str | dict[str, Any] | None) -> Any:
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return choice


class Response:
    """A chat model's answer as a response."""

    def __init__(self, asked: ResponsesRequest, endpoint: str):
        self.id = f"resp_{uuid.uuid4().hex}"
        self._asked = asked
        self._endpoint = endpoint
        self._created = int(time.time())

    def content(self, content: bytes) -> bytes:
        """The whole answer."""
        chat = json.loads(content)
        choice = chat["choices"][0]
        message = choice["message"]
        output = [text_item(message["content"])] if message.get("content") else []
        for call in message.get("tool_calls") or []:
            output.append(call_item(call.get("id"), call["function"]["name"], call["function"]["arguments"]))
        return json.dumps(self.shown(output, choice.get("finish_reason"), chat.get("usage"))).encode()

    def shown(self, output: list[dict[str, Any]], finish: str | None, usage: dict[str, Any] | None) -> dict[str, Any]:
        """The response object; without a reason to finish it is still being made."""
        asked, cut = self._asked, finish == "length"
        return {
            "id": self.id,
            "object": "response",
            "created_at": self._created,
            "model": self._endpoint,
            "status": "incomplete" if cut else "completed" if finish else "in_progress",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "error": None,
            "output": output,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {},
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": asked.temperature,
            "text": asked.text or {"format": {"type": "text"}},
            "tool_choice": asked.tool_choice or "auto",
            "tools": asked.tools or [],
            "top_p": asked.top_p,
            "truncation": "disabled",
            "user": asked.user,
            "usage": _usage(usage) if usage else None,
        }


def text_item(text: str, item_id: str | None = None, status: str = "completed") -> dict[str, Any]:
    """An output item that is a message."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item_id = item_id or f"msg_{uuid.uuid4().hex}"
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": [part]}


def call_item(call_id: str | None, name: str, arguments: str, item_id: str | None = None) -> dict[str, Any]:
    """An output item that is a call of a function."""
    item_id = item_id or f"fc_{uuid.uuid4().hex}"
    call = {"call_id": call_id or item_id, "name": name, "arguments": arguments}
    return {"id": item_id, "type": "function_call", "status": "completed", **call}


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return {
        "input_tokens": usage.get("prompt_tokens", 0),
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": usage.get("completion_tokens", 0),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.get("total_tokens", 0),
    }
