"""What the Spark Connect service answers by itself: results as Arrow, and errors that pyspark raises by their class."""

import json
import uuid
from collections.abc import Iterator, Sequence

import pyarrow as pa
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from google.rpc.code_pb2 import INTERNAL
from pyspark.sql.connect.proto import base_pb2, relations_pb2

from local_workspace.sql.lake.errors import SqlError, from_sail

ANALYSIS = "org.apache.spark.sql.AnalysisException"
PARSE = "org.apache.spark.sql.catalyst.parser.ParseException"
SAILS_OWN = (ANALYSIS, PARSE, "java.lang.IllegalArgumentException")
DETAILS = "grpc-status-details-bin"
MESSAGE_LENGTH = 2048
"""Errors travel in HTTP/2 headers, which clients accept up to 8 KB."""
EMPTY = relations_pb2.LocalRelation(schema='{"type": "struct", "fields": []}')


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        # Clients want a batch to see the columns, even when there is no row in it.
        for batch in table.to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def local_relation(table: pa.Table) -> relations_pb2.Relation:
    """Rows that are there already, as a relation."""
    rows = relations_pb2.LocalRelation(data=_ipc(table)) if table.num_columns else EMPTY
    return relations_pb2.Relation(local_relation=rows)


def command_result(relation: relations_pb2.Relation) -> base_pb2.ExecutePlanResponse:
    """What `spark.sql` gives a data frame of."""
    result = base_pb2.ExecutePlanResponse.SqlCommandResult(relation=relation)
    return base_pb2.ExecutePlanResponse(sql_command_result=result)


def rows(table: pa.Table) -> base_pb2.ExecutePlanResponse:
    """The rows of a plan."""
    batch = base_pb2.ExecutePlanResponse.ArrowBatch(row_count=table.num_rows, data=_ipc(table))
    return base_pb2.ExecutePlanResponse(arrow_batch=batch)


def responses(request: base_pb2.ExecutePlanRequest, answer: base_pb2.ExecutePlanResponse | None) -> Iterator[bytes]:
    """The stream that answers a plan: `answer`, and that it is complete where the client could come back for more."""
    complete = base_pb2.ExecutePlanResponse(result_complete=base_pb2.ExecutePlanResponse.ResultComplete())
    reattachable = any(option.reattach_options.reattachable for option in request.request_options)
    for response in [answer, complete if reattachable else None]:
        if response is not None:
            response.session_id = request.session_id
            # Sail takes the client's session id for its own; clients refuse answers of two servers in one session.
            response.server_side_session_id = request.session_id
            response.operation_id = request.operation_id
            response.response_id = str(uuid.uuid4())
            yield response.SerializeToString()


def named(details: bytes, names: Sequence[str]) -> SqlError | None:
    """Sail's error with the condition it has on Databricks; None for one of users' code, and for one without a name.

    `details` is the `google.rpc.Status`, `names` are the tables of the plan.
    """
    status = status_pb2.Status.FromString(details)
    info = error_details_pb2.ErrorInfo()
    found = any(detail.Unpack(info) for detail in status.details)
    if not found or info.reason not in SAILS_OWN or "errorClass" in info.metadata:
        return None
    error = from_sail(Exception(status.message), [name.replace("`", "") for name in names])
    return None if error.condition == "INTERNAL_ERROR" else error


def status_details(error: SqlError) -> bytes:
    """An error as the `google.rpc.Status` that pyspark makes an exception with an error class of."""
    classes = [PARSE, ANALYSIS] if error.condition == "PARSE_SYNTAX_ERROR" else [ANALYSIS]
    metadata = {"classes": json.dumps(classes), "errorClass": error.condition, "sqlState": error.sqlstate}
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=classes[0], domain="org.apache.spark", metadata=metadata))
    return status_pb2.Status(code=INTERNAL, message=str(error)[:MESSAGE_LENGTH], details=[detail]).SerializeToString()
