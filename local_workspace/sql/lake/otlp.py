"""OpenTelemetry export requests as rows of the documented Databricks tables (schema v2).

Ids are lowercase hex, enums their names, attributes plain objects. `record_id` is made of the record itself, so
that a request sent twice gives the same ids: readers de-duplicate by it.
"""

import base64
import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from local_workspace.sql.lake.errors import SqlError

Row = dict[str, Any]

REQUESTS: dict[str, type[Message]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
RESPONSES: dict[str, type[Message]] = {
    "traces": ExportTraceServiceResponse,
    "logs": ExportLogsServiceResponse,
    "metrics": ExportMetricsServiceResponse,
}
IDS = ("traceId", "spanId", "parentSpanId")
MICROSECONDS_A_DAY = 86_400_000_000


def malformed(reason: object) -> SqlError:
    """The error for a body that is no OTLP request."""
    return SqlError("MALFORMED_OTLP_REQUEST", f"The body is not an OTLP request: {reason}", "22000")


def parse(signal: str, content: bytes, as_json: bool) -> Any:
    """The export request in a body. Raises SqlError."""
    request = REQUESTS[signal]()
    try:
        if as_json:
            body = json.loads(content)
            if not isinstance(body, dict):
                raise malformed("an object is expected")
            json_format.ParseDict(_ids_in_base64(body), request, ignore_unknown_fields=True)
        else:
            request.ParseFromString(content)
    except (DecodeError, json_format.ParseError, ValueError, RecursionError) as error:
        raise malformed(error) from error
    return request


def _ids_in_base64(value: Any) -> Any:
    """OTLP's JSON has ids in hex, where protobuf's own JSON has base64."""
    if isinstance(value, list):
        return [_ids_in_base64(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(inner)).decode()
        if key in IDS and isinstance(inner, str)
        else _ids_in_base64(inner)
        for key, inner in value.items()
    }


def rows(signal: str, request: Any) -> list[Row]:
    """The rows of a request."""
    return list({"traces": _spans, "logs": _logs, "metrics": _metrics}[signal](request))


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, kind)


def _name(enum: Any, number: int) -> str:
    """An enum value's name; its number as text when a newer client knows more values than we do."""
    return enum.Name(number) if number in enum.values() else str(number)


def _attributes(pairs: Iterable[KeyValue]) -> Row:
    return {pair.key: _value(pair.value) for pair in pairs}


def _record(nanoseconds: int, identity: bytes, shared: Row) -> Row:
    digest = hashlib.blake2b(identity, digest_size=16).digest()
    microseconds = nanoseconds // 1000
    moment = {"time": microseconds, "date": microseconds // MICROSECONDS_A_DAY}
    return {"record_id": str(uuid.UUID(bytes=digest)), **moment, **shared}


def _shared(holder: Any, scope_holder: Any, kind: str) -> tuple[Row, bytes]:
    """What all records of one resource and scope share, and bytes that identify it."""
    resource, scope = holder.resource, scope_holder.scope
    attributes = _attributes(resource.attributes)
    shared = {
        "service_name": attributes.get("service.name"),
        "resource": {"attributes": attributes, "dropped_attributes_count": resource.dropped_attributes_count},
        "resource_schema_url": holder.schema_url,
        "instrumentation_scope": {
            "name": scope.name,
            "version": scope.version,
            "attributes": _attributes(scope.attributes),
            "dropped_attributes_count": scope.dropped_attributes_count,
        },
        f"{kind}_schema_url": scope_holder.schema_url,
    }
    return shared, resource.SerializeToString(deterministic=True) + scope.SerializeToString(deterministic=True)


def _spans(request: ExportTraceServiceRequest) -> Iterator[Row]:
    for holder in request.resource_spans:
        for scope_holder in holder.scope_spans:
            shared, _identity = _shared(holder, scope_holder, "span")
            for span in scope_holder.spans:
                yield _record(span.start_time_unix_nano, span.trace_id + span.span_id, shared) | _span(span)


def _span(span: Span) -> Row:
    return {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "trace_state": span.trace_state,
        "parent_span_id": span.parent_span_id.hex(),
        "flags": span.flags,
        "name": span.name,
        "kind": _name(Span.SpanKind, span.kind),
        "start_time_unix_nano": span.start_time_unix_nano,
        "end_time_unix_nano": span.end_time_unix_nano,
        "attributes": _attributes(span.attributes),
        "dropped_attributes_count": span.dropped_attributes_count,
        "events": [
            {
                "time_unix_nano": event.time_unix_nano,
                "name": event.name,
                "attributes": _attributes(event.attributes),
                "dropped_attributes_count": event.dropped_attributes_count,
            }
            for event in span.events
        ],
        "dropped_events_count": span.dropped_events_count,
        "links": [
            {
                "trace_id": link.trace_id.hex(),
                "span_id": link.span_id.hex(),
                "trace_state": link.trace_state,
                "attributes": _attributes(link.attributes),
                "dropped_attributes_count": link.dropped_attributes_count,
                "flags": link.flags,
            }
            for link in span.links
        ],
        "dropped_links_count": span.dropped_links_count,
        "status": {"message": span.status.message, "code": _name(Status.StatusCode, span.status.code)},
    }


def _logs(request: ExportLogsServiceRequest) -> Iterator[Row]:
    for holder in request.resource_logs:
        for scope_holder in holder.scope_logs:
            shared, identity = _shared(holder, scope_holder, "log")
            for log in scope_holder.log_records:
                moment = log.time_unix_nano or log.observed_time_unix_nano
                yield _record(moment, identity + log.SerializeToString(deterministic=True), shared) | {
                    "event_name": log.event_name,
                    "trace_id": log.trace_id.hex(),
                    "span_id": log.span_id.hex(),
                    "time_unix_nano": log.time_unix_nano,
                    "observed_time_unix_nano": log.observed_time_unix_nano,
                    "severity_number": _name(SeverityNumber, log.severity_number),
                    "severity_text": log.severity_text,
                    "body": _value(log.body),
                    "attributes": _attributes(log.attributes),
                    "dropped_attributes_count": log.dropped_attributes_count,
                    "flags": log.flags,
                }


def _metrics(request: ExportMetricsServiceRequest) -> Iterator[Row]:
    for holder in request.resource_metrics:
        for scope_holder in holder.scope_metrics:
            shared, identity = _shared(holder, scope_holder, "metric")
            for metric in scope_holder.metrics:
                yield from _metric(metric, shared, identity)


def _metric(metric: Metric, shared: Row, identity: bytes) -> Iterator[Row]:
    kind = metric.WhichOneof("data")
    if kind is None:
        return
    data = getattr(metric, kind)
    common = {}
    if hasattr(data, "aggregation_temporality"):
        common["aggregation_temporality"] = _name(AggregationTemporality, data.aggregation_temporality)
    if kind == "sum":
        common["is_monotonic"] = data.is_monotonic
    for point in data.data_points:
        key = identity + metric.name.encode() + kind.encode() + point.SerializeToString(deterministic=True)
        yield _record(point.time_unix_nano, key, shared) | {
            "start_time_unix_nano": point.start_time_unix_nano,
            "time_unix_nano": point.time_unix_nano,
            "name": metric.name,
            "description": metric.description,
            "unit": metric.unit,
            "metric_type": kind,
            "metadata": _attributes(metric.metadata),
            kind: _point(kind, point) | common,
        }


def _number(point: Any) -> float | None:
    kind = point.WhichOneof("value")
    return float(getattr(point, kind)) if kind else None


def _exemplars(point: Any) -> list[Row]:
    return [
        {
            "time_unix_nano": exemplar.time_unix_nano,
            "value": _number(exemplar),
            "span_id": exemplar.span_id.hex(),
            "trace_id": exemplar.trace_id.hex(),
            "filtered_attributes": _attributes(exemplar.filtered_attributes),
        }
        for exemplar in point.exemplars
    ]


def _point(kind: str, point: Any) -> Row:
    shown: Row = {"attributes": _attributes(point.attributes), "flags": point.flags}
    if kind in ("gauge", "sum"):
        return shown | {"value": _number(point), "exemplars": _exemplars(point)}
    shown |= {"count": point.count}
    if kind == "summary":
        values = [{"quantile": q.quantile, "value": q.value} for q in point.quantile_values]
        return shown | {"sum": point.sum, "quantile_values": values}
    for name in ("sum", "min", "max"):
        shown[name] = getattr(point, name) if point.HasField(name) else None
    shown["exemplars"] = _exemplars(point)
    if kind == "histogram":
        return shown | {
            "bucket_counts": list(point.bucket_counts),
            "explicit_bounds": list(point.explicit_bounds),
        }
    return shown | {
        "scale": point.scale,
        "zero_count": point.zero_count,
        "zero_threshold": point.zero_threshold,
        "positive_bucket": {"offset": point.positive.offset, "bucket_counts": list(point.positive.bucket_counts)},
        "negative_bucket": {"offset": point.negative.offset, "bucket_counts": list(point.negative.bucket_counts)},
    }
