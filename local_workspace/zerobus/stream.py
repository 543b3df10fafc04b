"""One `EphemeralStream`: records come in at the client's pace, go out in few appends, and are acknowledged in Delta.

Delivery is at least once. A record is acknowledged when it is in Delta; when the stream breaks before, the client
opens another and sends it again, and then it may be there twice: de-duplicate by a key of your own.
"""

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from local_workspace.zerobus import messages
from local_workspace.zerobus.records import Decode, decoders, invalid
from local_workspace.zerobus.upstream import TABLE_HEADER, Rejected, Upstream

APPEND_SECONDS = 0.05
"""The shortest time from one append of a stream to its next: what comes meanwhile goes together."""
MAX_WAITING_BYTES = 8 * 2**20
CLOSE_SECONDS = 2
"""How long clients may still wait for acknowledgements when the engine stops."""


@dataclass(frozen=True)
class Submission:
    """What one offset stands for: a record, or a batch that is appended whole."""

    offset: int
    records: list[bytes]

    @property
    def size(self) -> int:
        """Bytes of all its records."""
        return sum(map(len, self.records))


class Inbox:
    """Submissions between the reader, which waits while there are too many, and the writer, which takes all."""

    def __init__(self) -> None:
        self._waiting: list[Submission] = []
        self._bytes = 0
        self._end: Rejected | None = None
        self._ended = False
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()

    async def put(self, submission: Submission) -> None:
        """Add one, when there is room."""
        while self._bytes > MAX_WAITING_BYTES:
            self._emptied.clear()
            await self._emptied.wait()
        self._waiting.append(submission)
        self._bytes += submission.size
        self._filled.set()

    def end(self, why: Rejected | None = None) -> None:
        """No more will come; the writer gets to know `why` after it has taken the rest."""
        self._ended, self._end = True, why
        self._filled.set()

    async def take(self) -> list[Submission]:
        """All there are, at least one; none at the end. Raises Rejected when the end is an error."""
        await self._filled.wait()
        taken, self._waiting, self._bytes = self._waiting, [], 0
        self._emptied.set()
        if not self._ended:
            self._filled.clear()
        elif not taken and self._end:
            raise self._end
        return taken


class Stream:
    """One client's stream into one table."""

    def __init__(self, context: Any, upstream: Upstream):
        self._context = context
        self._upstream = upstream
        self._inbox = Inbox()
        self._writing = asyncio.Lock()
        self._table = ""

    async def run(self) -> None:
        """Serve until the client has sent all and all is acknowledged. Raises Rejected."""
        # The genuine client sends nothing before it has the headers of the answer.
        await self._context.send_initial_metadata(())
        decode = await self._create()
        reader = asyncio.create_task(self._read(decode))
        try:
            while batch := await self._inbox.take():
                started = time.monotonic()
                await self._append(batch)
                await asyncio.sleep(started + APPEND_SECONDS - time.monotonic())
        finally:
            reader.cancel()

    async def close_soon(self) -> None:
        """Tell the client to wait for its acknowledgements and to open another stream."""
        signal = messages.StreamResponse()
        signal.close_stream_signal.duration.seconds = CLOSE_SECONDS
        await self._write(signal)

    async def _create(self) -> dict[str, Decode]:
        request = await self._next()
        if request is None or request.WhichOneof("payload") != "create_stream":
            raise invalid("The first message must be create_stream.")
        create = request.create_stream
        if not create.table_name:
            raise invalid("table_name is missing.")
        metadata = dict(self._context.invocation_metadata())
        if metadata.get(TABLE_HEADER, create.table_name) != create.table_name:
            raise invalid(f"The header {TABLE_HEADER} and table_name ({create.table_name}) name different tables.")
        self._table = create.table_name
        columns = await self._upstream.columns(self._table, metadata.get("authorization", ""))
        decode = decoders(create, columns)
        created = messages.StreamResponse()
        created.create_stream_response.stream_id = str(uuid.uuid4())
        await self._write(created)
        return decode

    async def _next(self) -> Any:
        """The next message, or None at the end. Raises Rejected."""
        content = await self._context.read()
        if content is grpc.aio.EOF:
            return None
        try:
            return messages.StreamRequest.FromString(content)
        except DecodeError as error:
            raise invalid("The message is not an EphemeralStreamRequest.") from error

    async def _read(self, decode: dict[str, Decode]) -> None:
        """Move what the client sends into the inbox."""
        last, why = -1, None
        try:
            while (request := await self._next()) is not None:
                submission = Submission(*_records(request, decode))
                if submission.offset <= last:
                    raise invalid(f"offset_id {submission.offset} does not follow {last}.")
                last = submission.offset
                await self._inbox.put(submission)
        except Rejected as error:
            why = error
        finally:
            self._inbox.end(why)

    async def _append(self, batch: list[Submission]) -> None:
        """Append and acknowledge in order; of a batch that does not fit, what comes before the first bad record."""
        try:
            records = [record for submission in batch for record in submission.records]
            if records:
                await self._upstream.append(self._table, records)
        except Rejected as error:
            if error.code is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            if len(batch) == 1:
                raise invalid(f"offset_id {batch[0].offset}: {error.message}") from error
            middle = len(batch) // 2
            await self._append(batch[:middle])
            await self._append(batch[middle:])
            return
        acknowledged = messages.StreamResponse()
        acknowledged.ingest_record_response.durability_ack_up_to_offset = batch[-1].offset
        await self._write(acknowledged)

    async def _write(self, response: Any) -> None:
        async with self._writing:
            await self._context.write(response)


def _records(request: Any, decode: dict[str, Decode]) -> tuple[int, list[bytes]]:
    """A request's offset and its records. Raises Rejected."""
    payload = request.WhichOneof("payload")
    if payload not in ("ingest_record", "ingest_record_batch"):
        raise invalid("After create_stream come only ingest_record and ingest_record_batch.")
    ingest = getattr(request, payload)
    if not ingest.HasField("offset_id"):
        raise invalid("offset_id is missing.")
    form = ingest.WhichOneof("record" if payload == "ingest_record" else "batch")
    if form not in decode:
        raise invalid(f"offset_id {ingest.offset_id}: this stream takes {' or '.join(decode)}, not {form}.")
    try:
        return ingest.offset_id, decode[form](getattr(ingest, form))
    except ValueError as error:
        raise invalid(f"offset_id {ingest.offset_id}: the record cannot be read: {error}") from error
