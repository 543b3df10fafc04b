"""A load generator on raw asyncio: Python's HTTP clients are slower than the servers measured here."""

import asyncio
import time
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Load:
    """What a bounded run of requests showed."""

    requests: int
    seconds: float
    latencies: list[float]  # seconds, sorted

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    def percentile(self, share: float) -> float:
        """Latency in milliseconds below which `share` of the requests lie."""
        return self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))] * 1000


def _message(url: str, method: str, body: bytes) -> bytes:
    parts = urlsplit(url)
    return (
        f"{method} {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def _answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the server answered {head.splitlines()[0].decode()}")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))


async def _connection(url: str, message: bytes, until: float, latencies: list[float]) -> None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    while (begin := time.perf_counter()) < until:
        writer.write(message)
        await _answer(reader)
        latencies.append(time.perf_counter() - begin)
    writer.close()
    await writer.wait_closed()


async def _run(url: str, method: str, body: bytes, connections: int, seconds: float) -> Load:
    latencies: list[float] = []
    begin = time.perf_counter()
    message = _message(url, method, body)
    await asyncio.gather(*(_connection(url, message, begin + seconds, latencies) for _ in range(connections)))
    return Load(len(latencies), time.perf_counter() - begin, sorted(latencies))


def load(url: str, method: str = "GET", body: bytes = b"", connections: int = 16, seconds: float = 5.0) -> Load:
    """Send the same request over `connections` keep-alive connections for `seconds`; any answer but 200 raises."""
    return asyncio.run(_run(url, method, body, connections, seconds))
