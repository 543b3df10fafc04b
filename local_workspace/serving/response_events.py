"""A chat model's stream as the events of the Responses API."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from local_workspace.serving import sse
from local_workspace.serving.responses import Response, call_item, text_item


class StreamedResponse(Response):
    """A response whose events come while the model works."""

    async def events(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The response's events, numbered, from `response.created` to `response.completed`."""
        number = 0
        async for kind, fields in self._events(events):
            yield sse.event({"type": kind, "sequence_number": number, **fields}, kind)
            number += 1

    async def _events(self, events: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        output = _Output()
        finish, usage = None, None
        for kind in ("response.created", "response.in_progress"):
            yield kind, {"response": self.shown([], None, None)}
        async for event in events:
            chunk = sse.data(event) or {}
            if "error" in chunk:
                message = str(chunk["error"].get("message", "the model failed"))
                yield "error", {"code": "server_error", "message": message, "param": None}
                return
            usage = chunk.get("usage") or usage
            for choice in chunk.get("choices") or []:
                finish = choice.get("finish_reason") or finish
                for made in output.add(choice.get("delta") or {}):
                    yield made
        for made in output.close():
            yield made
        finish = finish or "stop"
        kind = "response.incomplete" if finish == "length" else "response.completed"
        yield kind, {"response": self.shown(output.items, finish, usage)}


class _Output:
    """The output items as they grow: at most one message, and calls of functions."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self._calls: dict[int, int] = {}
        self._message: int | None = None

    def add(self, delta: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """The events of one piece of the answer."""
        if text := delta.get("content"):
            if self._message is None:
                yield from self._open_message()
            index = self._message or 0
            self.items[index]["content"][0]["text"] += text
            yield "response.output_text.delta", self._at(index, content_index=0, delta=text, logprobs=[])
        for call in delta.get("tool_calls") or []:
            yield from self._add_call(call)

    def close(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The events that end every item."""
        for index, item in enumerate(self.items):
            item["status"] = "completed"
            if item["type"] == "message":
                part = item["content"][0]
                yield "response.output_text.done", self._at(index, content_index=0, text=part["text"], logprobs=[])
                yield "response.content_part.done", self._at(index, content_index=0, part=part)
            else:
                facts = {"arguments": item["arguments"], "name": item["name"]}
                yield "response.function_call_arguments.done", self._at(index, **facts)
            yield "response.output_item.done", {"output_index": index, "item": item}

    def _open_message(self) -> Iterator[tuple[str, dict[str, Any]]]:
        item = text_item("", status="in_progress")
        self._message = len(self.items)
        self.items.append(item)
        yield "response.output_item.added", {"output_index": self._message, "item": item | {"content": []}}
        yield "response.content_part.added", self._at(self._message, content_index=0, part=item["content"][0])

    def _add_call(self, call: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        number, function = call.get("index", 0), call.get("function") or {}
        if number not in self._calls:
            self._calls[number] = len(self.items)
            item = call_item(call.get("id"), function.get("name") or "", "") | {"status": "in_progress"}
            self.items.append(item)
            yield "response.output_item.added", {"output_index": self._calls[number], "item": dict(item)}
        if arguments := function.get("arguments"):
            index = self._calls[number]
            self.items[index]["arguments"] += arguments
            yield "response.function_call_arguments.delta", self._at(index, delta=arguments)

    def _at(self, index: int, **fields: Any) -> dict[str, Any]:
        return {"output_index": index, "item_id": self.items[index]["id"], **fields}
