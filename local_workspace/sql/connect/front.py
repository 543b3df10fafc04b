"""The Spark Connect server that clients speak to: it knows who calls, and passes on to Sail what is Sail's.

It runs in the lake engine's process on a thread of its own.
"""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from pyspark.errors import PySparkException
from pyspark.sql.connect.proto import base_pb2

from local_workspace.sql.connect.answers import DETAILS, MESSAGE_LENGTH, named, status_details
from local_workspace.sql.connect.plans import named_tables
from local_workspace.sql.connect.service import Connect
from local_workspace.sql.connect.tokens import Tokens
from local_workspace.sql.lake.errors import SqlError, from_sail
from local_workspace.sql.lake.statements import CONFLICT_SECONDS

SERVICE = "/spark.connect.SparkConnectService/"
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
WORKERS = 64
"""How many statements of clients the lake works on at once."""
UNKNOWN = "A valid token is needed: connect to the workspace's spark_remote, or to sc://localhost:PORT/;token=TOKEN."

Context = Any  # grpc.aio.ServicerContext; grpc has no types
T = TypeVar("T")


class Front(grpc.GenericRpcHandler):
    """Every method of the service, before Sail's own."""

    def __init__(self, connect: Connect, tokens: Tokens, sail: grpc.aio.Channel):
        self._connect = connect
        self._tokens = tokens
        self._sail = sail
        self._workers = ThreadPoolExecutor(WORKERS, "spark-connect")

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """The handler of a method."""
        method = details.method
        match method.removeprefix(SERVICE):
            case "ExecutePlan":
                return grpc.unary_stream_rpc_method_handler(self._execute)
            case "ReattachExecute":
                return grpc.unary_stream_rpc_method_handler(self._reattach)
            case "AddArtifacts":
                return grpc.stream_unary_rpc_method_handler(self._add_artifacts)
            case "AnalyzePlan":
                return grpc.unary_unary_rpc_method_handler(self._analyze)
            case "ReleaseExecute":
                return grpc.unary_unary_rpc_method_handler(self._release_execute)
            case "ReleaseSession":
                return grpc.unary_unary_rpc_method_handler(self._release_session)

        async def unary(content: bytes, context: Context) -> bytes:
            await self._user(context)
            async with _errors_told(context):
                return await self._sail.unary_unary(method)(content)

        return grpc.unary_unary_rpc_method_handler(unary)

    async def _user(self, context: Context) -> str:
        """Who calls; a call without a token of this workspace ends here."""
        authorization = str(dict(context.invocation_metadata() or ()).get("authorization", ""))
        user = self._tokens.known(authorization) or await self._work(self._tokens.user, authorization)
        return user or await context.abort(grpc.StatusCode.UNAUTHENTICATED, UNKNOWN)

    async def _work(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._workers, function, *arguments)

    async def _execute(self, content: bytes, context: Context) -> AsyncIterator[bytes]:
        user = await self._user(context)
        request = await _parsed(base_pb2.ExecutePlanRequest, content, context)
        async with _errors_told(context, request):
            answer = await self._work(self._connect.execute, request, user)
            if answer is None:
                async for response in self._run(request):
                    yield response
            else:
                for response in answer:
                    yield response

    async def _reattach(self, content: bytes, context: Context) -> AsyncIterator[bytes]:
        await self._user(context)
        async with _errors_told(context):
            async for response in self._stream("ReattachExecute", content):
                yield response

    async def _run(self, request: base_pb2.ExecutePlanRequest) -> AsyncIterator[bytes]:
        """What Sail answers to a plan; a command that lost a race against another writer is run again."""
        content, begun = request.SerializeToString(), False
        deadline, pause = time.monotonic() + CONFLICT_SECONDS, 0.01
        while True:
            try:
                async for response in self._stream("ExecutePlan", content):
                    begun = True
                    yield response
                return
            except grpc.aio.AioRpcError as error:
                lost = from_sail(Exception(error.details()), []).condition == "DELTA_CONCURRENT_WRITE"
                if begun or not lost or not request.plan.HasField("command") or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 (jitter)
            pause = min(pause * 2, 1.0)

    async def _stream(self, name: str, content: bytes) -> AsyncIterator[bytes]:
        call = self._sail.unary_stream(SERVICE + name)(content)
        try:
            async for response in call:
                yield response
        finally:
            call.cancel()  # a client that has gone away wants no more of it

    async def _analyze(self, content: bytes, context: Context) -> bytes:
        user = await self._user(context)
        request = await _parsed(base_pb2.AnalyzePlanRequest, content, context)
        async with _errors_told(context, request):
            await self._work(self._connect.settle, request, user)
            return await self._sail.unary_unary(SERVICE + "AnalyzePlan")(request.SerializeToString())

    async def _release_execute(self, content: bytes, context: Context) -> bytes:
        await self._user(context)
        try:
            return await self._sail.unary_unary(SERVICE + "ReleaseExecute")(content)
        except grpc.aio.AioRpcError:
            # Sail never had the operation, or has it no longer: nothing is left to be released.
            request = await _parsed(base_pb2.ReleaseExecuteRequest, content, context)
            session, operation = request.session_id, request.operation_id
            answer = {"session_id": session, "server_side_session_id": session, "operation_id": operation}
            return base_pb2.ReleaseExecuteResponse(**answer).SerializeToString()

    async def _release_session(self, content: bytes, context: Context) -> bytes:
        await self._user(context)
        async with _errors_told(context):
            await self._work(self._connect.release, await _parsed(base_pb2.ReleaseSessionRequest, content, context))
            return await self._sail.unary_unary(SERVICE + "ReleaseSession")(content)

    async def _add_artifacts(self, contents: AsyncIterator[bytes], context: Context) -> bytes:
        await self._user(context)
        async with _errors_told(context):
            return await self._sail.stream_unary(SERVICE + "AddArtifacts")(contents)


async def _parsed(kind: type[Message], content: bytes, context: Context) -> Any:
    try:
        return kind.FromString(content)
    except DecodeError as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"The request is no {kind.DESCRIPTOR.name}: {error}")


@asynccontextmanager
async def _errors_told(context: Context, plan: Message | None = None) -> AsyncIterator[None]:
    """End the call as the lake's error says, or as Sail ended its own."""
    try:
        yield
    except SqlError as error:
        await _refuse(context, error)
    except PySparkException as error:
        await _refuse(context, from_sail(error, []))
    except grpc.aio.AioRpcError as error:
        details = [pair for pair in error.trailing_metadata() or () if pair[0] == DETAILS]
        if plan is not None and details and (known := named(details[0][1], [name for _, name in named_tables(plan)])):
            await _refuse(context, known)
        await context.abort(error.code(), (error.details() or "")[:MESSAGE_LENGTH], tuple(details))


async def _refuse(context: Context, error: SqlError) -> None:
    details = ((DETAILS, status_details(error)),)
    await context.abort(grpc.StatusCode.INTERNAL, str(error)[:MESSAGE_LENGTH], details)


async def _serve(connect: Connect, tokens: Tokens, sail_port: int, port: "Future[int]") -> None:
    server = grpc.aio.server(options=OPTIONS)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{sail_port}", OPTIONS) as sail:
        server.add_generic_rpc_handlers((Front(connect, tokens, sail),))
        listening = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        port.set_result(listening)
        await server.wait_for_termination()


def start(connect: Connect, tokens: Tokens, sail_port: int) -> int:
    """Serve on a thread of its own until the process ends; gives the port."""
    port: Future[int] = Future()

    def run() -> None:
        try:
            asyncio.run(_serve(connect, tokens, sail_port, port))
        except BaseException as error:
            port.set_exception(error)
            raise

    threading.Thread(target=run, daemon=True, name="spark-connect").start()
    return port.result(timeout=30)
