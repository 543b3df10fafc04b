"""Server-sent events and token counts in what OpenAI-compatible servers answer."""

import json
from collections.abc import AsyncIterator
from typing import Any

DONE = b"data: [DONE]\n\n"
USAGE = b'"usage"'


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Whole events, each as soon as it is there."""
    buffer, event = b"", b""
    async for chunk in chunks:
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            event += line + b"\n"
            if line in (b"", b"\r"):
                yield event
                event = b""
    if event or buffer:
        yield event + buffer


def data(event: bytes) -> dict[str, Any] | None:
    """The JSON object that an event carries, if it does."""
    payload = b"".join(line[5:] for line in event.splitlines() if line.startswith(b"data:")).strip()
    try:
        value = json.loads(payload)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def event(value: dict[str, Any], name: str | None = None) -> bytes:
    """An event that carries a JSON object."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def tokens(content: bytes) -> tuple[int, int]:
    """Tokens read and generated, as the last `usage` in an answer or event says; nothing else of it is parsed."""
    at = content.rfind(USAGE)
    text = content[at + len(USAGE) :].lstrip(b" :") if at >= 0 else b""
    if not text.startswith(b"{"):
        return 0, 0
    try:
        usage, _ = json.JSONDecoder().raw_decode(text.decode(errors="replace"))
    except ValueError:
        return 0, 0
    read = usage.get("prompt_tokens", usage.get("input_tokens"))
    made = usage.get("completion_tokens", usage.get("output_tokens"))
    return read if isinstance(read, int) else 0, made if isinstance(made, int) else 0
