"""The files that a plan names: they must lie in volumes."""

from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import Message
from pyspark.sql.connect.proto import relations_pb2

from local_workspace.sql.lake.errors import unsupported

PATH_OPTIONS = ("path", "paths", "checkpointlocation")
DEFAULT_FORMAT = "delta"
"""What Databricks takes where a client names no format; Sail would take Parquet."""
LocalPath = Callable[[str], str]


def messages(root: Message) -> Iterator[Any]:
    """A message and all that are in it."""
    waiting = [root]
    while waiting:
        message = waiting.pop()
        yield message
        for descriptor, value in message.ListFields():
            if descriptor.message_type is None:
                continue
            if descriptor.message_type.GetOptions().map_entry:
                waiting += [inner for inner in value.values() if isinstance(inner, Message)]
            elif descriptor.is_repeated:
                waiting += value
            else:
                waiting.append(value)


def _options(message: Any, local: LocalPath) -> None:
    for name in message.options:
        if name.lower() in PATH_OPTIONS:
            message.options[name] = local(message.options[name])


def _path(message: Any, local: LocalPath) -> None:
    if message.path:
        message.path = local(message.path)
    _options(message, local)


def _save(message: Any, local: LocalPath) -> None:
    if not message.source:
        message.source = DEFAULT_FORMAT
    _path(message, local)


def _data_source(message: Any, local: LocalPath) -> None:
    if not message.format:
        message.format = DEFAULT_FORMAT
    message.paths[:] = [local(path) for path in message.paths]
    _options(message, local)


def _name(message: Any, _local: LocalPath) -> None:
    if "/" in message.unparsed_identifier:
        raise unsupported("reading files by path (format.`path`): they lie outside the catalog")


WITH_FILES: dict[str, Callable[[Any, LocalPath], None]] = {
    "spark.connect.Read.DataSource": _data_source,
    "spark.connect.Read.NamedTable": _name,
    "spark.connect.WriteOperation": _save,
    "spark.connect.WriteOperationV2": _options,
    "spark.connect.WriteStreamOperationStart": _path,
    "spark.connect.CreateTable": _path,
    "spark.connect.CreateExternalTable": _path,
}


def confine(plan: Message, local: LocalPath) -> None:
    """Put what `local` says in the place of each path in a plan. Raises SqlError."""
    for message in messages(plan):
        if work := WITH_FILES.get(message.DESCRIPTOR.full_name):
            work(message, local)


def named_tables(plan: Message) -> list[tuple[relations_pb2.Relation, str]]:
    """The relations of a plan that are tables, with their names."""
    relations = (message for message in messages(plan) if message.DESCRIPTOR.full_name == "spark.connect.Relation")
    return [
        (relation, relation.read.named_table.unparsed_identifier)
        for relation in relations
        if relation.HasField("read") and relation.read.HasField("named_table")
    ]
