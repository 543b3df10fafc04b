"""Commands on one Delta table that delta-rs does: DESCRIBE HISTORY and DETAIL, OPTIMIZE, VACUUM, RESTORE, TRUNCATE."""

import datetime
import json

import pyarrow as pa

from local_workspace.sql.lake.commands import strings
from local_workspace.sql.lake.context import NOTHING, Lake
from local_workspace.sql.lake.errors import SqlError, unsupported
from local_workspace.sql.lake.tables import path_of
from local_workspace.sql.lake.words import Words

CLUSTERING = "clusteringColumns"
DEFAULT_RETENTION_HOURS = 168


def describe_history(lake: Lake, words: Words) -> pa.Table:
    """DESCRIBE HISTORY name."""
    words.one_of("DESCRIBE", "DESC")
    words.expect("HISTORY")
    location = lake.location(words.name(3))
    words.end()
    history = lake.tables.open(location).history()
    text = pa.map_(pa.string(), pa.string())

    def pairs(commit: dict, key: str) -> list[tuple[str, str]]:
        return [
            (name, value if isinstance(value, str) else json.dumps(value))
            for name, value in (commit.get(key) or {}).items()
        ]

    return pa.table(
        {
            "version": pa.array([commit["version"] for commit in history], pa.int64()),
            "timestamp": pa.array([commit["timestamp"] * 1000 for commit in history], pa.timestamp("us", "UTC")),
            "operation": pa.array([commit.get("operation") for commit in history], pa.string()),
            "operationParameters": pa.array([pairs(commit, "operationParameters") for commit in history], text),
            "isBlindAppend": pa.array([commit.get("isBlindAppend") for commit in history], pa.bool_()),
            "operationMetrics": pa.array([pairs(commit, "operationMetrics") for commit in history], text),
            "engineInfo": pa.array(
                [commit.get("engineInfo") or commit.get("clientVersion") for commit in history], pa.string()
            ),
        }
    )


def describe_detail(lake: Lake, words: Words) -> pa.Table:
    """DESCRIBE DETAIL name."""
    words.one_of("DESCRIBE", "DESC")
    words.expect("DETAIL")
    record = lake.catalog.table(words.name(3))
    words.end()
    table = lake.tables.open(record["storage_location"])
    metadata, protocol = table.metadata(), table.protocol()
    files = pa.table(table.get_add_actions(flatten=True))
    properties = {name: value for name, value in metadata.configuration.items() if name != CLUSTERING}
    clustering = json.loads(metadata.configuration.get(CLUSTERING, "[]"))
    names = pa.list_(pa.string())
    moment = pa.timestamp("us", "UTC")
    return pa.table(
        {
            "format": ["delta"],
            "id": [str(metadata.id)],
            "name": [record["full_name"]],
            "description": pa.array([record.get("comment")], pa.string()),
            "location": [record["storage_location"]],
            "createdAt": pa.array([record["created_at"] * 1000], moment),
            "lastModified": pa.array([table.history(1)[0]["timestamp"] * 1000], moment),
            "partitionColumns": pa.array([metadata.partition_columns], names),
            "clusteringColumns": pa.array([clustering], names),
            "numFiles": pa.array([files.num_rows], pa.int64()),
            "sizeInBytes": pa.array([sum(files["size_bytes"].to_pylist())], pa.int64()),
            "properties": pa.array([list(properties.items())], pa.map_(pa.string(), pa.string())),
            "minReaderVersion": pa.array([protocol.min_reader_version], pa.int32()),
            "minWriterVersion": pa.array([protocol.min_writer_version], pa.int32()),
            "tableFeatures": pa.array(
                [sorted({*(protocol.reader_features or []), *(protocol.writer_features or [])})], names
            ),
        }
    )


def optimize(lake: Lake, words: Words) -> pa.Table:
    """OPTIMIZE name [ZORDER BY (columns)]; a clustered table is Z-ordered by its clustering columns."""
    words.expect("OPTIMIZE")
    location = lake.location(words.name(3))
    if words.peek() == "WHERE":
        raise unsupported("WHERE in OPTIMIZE")
    columns: list[str] = []
    if words.take("ZORDER", "BY"):
        words.expect("(")
        columns.append(words.token().text)
        while words.take(","):
            columns.append(words.token().text)
        words.expect(")")
    words.take("FULL")
    words.end()
    with lake.tables.lock(location):
        table = lake.tables.open(location)
        columns = columns or json.loads(table.metadata().configuration.get(CLUSTERING, "[]"))
        metrics = table.optimize.z_order(columns) if columns else table.optimize.compact()
    shown = {key: metrics[key] for key in ("numFilesAdded", "numFilesRemoved") if key in metrics}
    structure = pa.struct([(key, pa.int64()) for key in shown])
    return pa.table({"path": [location], "metrics": pa.array([shown], structure)})


def vacuum(lake: Lake, words: Words) -> pa.Table:
    """VACUUM name [RETAIN n HOURS] [DRY RUN]."""
    words.expect("VACUUM")
    location = lake.location(words.name(3))
    hours = DEFAULT_RETENTION_HOURS
    if words.take("RETAIN"):
        hours = words.number()
        words.one_of("HOURS", "HOUR")
    dry_run = words.take("DRY", "RUN")
    words.end()
    if hours < DEFAULT_RETENTION_HOURS and not dry_run:
        raise SqlError(
            "DELTA_VACUUM_RETENTION_PERIOD_TOO_SHORT",
            f"a retention of {hours} hours is shorter than the safe {DEFAULT_RETENTION_HOURS}: "
            "files that readers or writers still use could be deleted.",
            "22003",
        )
    with lake.tables.lock(location):
        files = lake.tables.open(location).vacuum(hours, dry_run=dry_run, enforce_retention_duration=not dry_run)
    return strings("path", rows=[(f"{path_of(location)}/{file}",) for file in files] if dry_run else [(location,)])


def restore(lake: Lake, words: Words) -> pa.Table:
    """RESTORE [TABLE] name TO VERSION AS OF n | TIMESTAMP AS OF '…'."""
    words.expect("RESTORE")
    words.take("TABLE")
    full_name = words.name(3)
    location = lake.location(full_name)
    words.take("TO")
    target: int | datetime.datetime
    if words.take("VERSION", "AS", "OF"):
        target = words.number()
    else:
        words.expect("TIMESTAMP", "AS", "OF")
        moment = datetime.datetime.fromisoformat(words.string())
        target = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    words.end()
    with lake.tables.lock(location):
        metrics = lake.tables.open(location).restore(target)
        lake.refresh(full_name, location)
    return pa.table({key: pa.array([value], pa.int64()) for key, value in metrics.items() if isinstance(value, int)})


def truncate(lake: Lake, words: Words) -> pa.Table:
    """TRUNCATE TABLE name."""
    words.expect("TRUNCATE", "TABLE")
    location = lake.location(words.name(3))
    words.end()
    with lake.tables.lock(location):
        lake.tables.open(location).delete()
    return NOTHING
