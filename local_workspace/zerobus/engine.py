"""The gRPC engine's process: the Zerobus service and OTLP's collector services, over the workspace's HTTP API.

It keeps nothing: what it acknowledged is in Delta. At SIGTERM it tells its streams to move on before it ends.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from local_workspace import child
from local_workspace.zerobus.messages import PACKAGE, StreamResponse
from local_workspace.zerobus.stream import CLOSE_SECONDS, Stream
from local_workspace.zerobus.upstream import TABLE_HEADER, Rejected, Upstream

MAX_MESSAGE_BYTES = 64 * 2**20
OPTIONS = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.so_reuseport", 0)]
COLLECTORS = {
    "opentelemetry.proto.collector.trace.v1.TraceService": "traces",
    "opentelemetry.proto.collector.logs.v1.LogsService": "logs",
    "opentelemetry.proto.collector.metrics.v1.MetricsService": "metrics",
}

Handler = Callable[[Any, Any], Awaitable[Any]]


class Unknown(grpc.GenericRpcHandler):
    """Every other method, such as Arrow Flight's, is refused by name."""

    def service(self, handler_call_details: Any) -> Any:
        async def refuse(_requests: Any, context: Any) -> None:
            method = handler_call_details.method
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"The local workspace does not have {method}.")

        return grpc.stream_stream_rpc_method_handler(refuse)


def guarded(handle: Handler) -> Handler:
    """A handler whose Rejected becomes the call's status."""

    async def handler(request: Any, context: Any) -> Any:
        try:
            return await handle(request, context)
        except Rejected as error:
            await context.abort(error.code, error.message, error.trailers)

    return handler


def handlers(upstream: Upstream, streams: set[Stream]) -> list[grpc.GenericRpcHandler]:
    """The services; `streams` are those that are open."""

    async def ephemeral_stream(_requests: Any, context: Any) -> None:
        stream = Stream(context, upstream)
        streams.add(stream)
        try:
            await stream.run()
        finally:
            streams.discard(stream)

    def export(kind: str) -> Handler:
        async def handle(content: bytes, context: Any) -> bytes:
            metadata = dict(context.invocation_metadata())
            table, authorization = metadata.get(TABLE_HEADER, ""), metadata.get("authorization", "")
            return await upstream.export(kind, table, authorization, content)

        return guarded(handle)

    ephemeral = grpc.stream_stream_rpc_method_handler(
        guarded(ephemeral_stream), response_serializer=StreamResponse.SerializeToString
    )
    services = [grpc.method_handlers_generic_handler(f"{PACKAGE}.Zerobus", {"EphemeralStream": ephemeral})]
    for service, kind in COLLECTORS.items():
        methods = {"Export": grpc.unary_unary_rpc_method_handler(export(kind))}
        services.append(grpc.method_handlers_generic_handler(service, methods))
    return [*services, Unknown()]


async def serve() -> None:
    """Serve until SIGTERM or the parent's end."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    upstream = Upstream(os.environ["LOCAL_WORKSPACE_HOST"], os.environ["LOCAL_WORKSPACE_TOKEN"])
    streams: set[Stream] = set()
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers(handlers(upstream, streams))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    child.announce(port)
    await stop.wait()
    await asyncio.gather(*(stream.close_soon() for stream in streams), return_exceptions=True)
    await server.stop(CLOSE_SECONDS)


if __name__ == "__main__":
    child.exit_with_parent()
    asyncio.run(serve())
