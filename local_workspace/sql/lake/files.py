"""Files in volumes as rows: `read_files('/Volumes/…', …)`, ``csv.`/Volumes/…` `` and LIST."""

import datetime
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql.connect.readwriter import DataFrameReader
from pyspark.sql.connect.session import SparkSession
from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.errors import SqlError, unsupported
from local_workspace.sql.lake.rewriting import Call, parsed, quoted
from local_workspace.sql.lake.volumes import TOP, local_path
from local_workspace.sql.lake.words import Words

FORMATS = ("text", "csv", "json", "parquet", "delta", "binaryfile", "orc", "avro")
READABLE = {"csv": "csv", "json": "json", "parquet": "parquet", "text": "text", "binaryfile": "binaryFile"}
SUFFIXES = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet", ".txt": "text"}
# What Sail's readers really do something with; any other option is refused by its name.
OPTIONS = {
    "csv": {"header", "sep", "delimiter", "quote", "escape", "comment", "inferschema", "multiline"},
    "json": {"inferschema"},
    "parquet": {"mergeschema"},
    "text": {"wholetext", "linesep"},
    "binaryfile": set(),
}
GLOB = re.compile(r"[*?\[{]")


@dataclass(frozen=True)
class VolumeFile:
    """A file by the path that users know, and where it lies."""

    path: str
    local: Path


def is_path(table: exp.Table) -> bool:
    """Whether a table is named as ``format.`/path` ``."""
    return not table.catalog and table.db.lower() in FORMATS and ("/" in table.name or ":" in table.name)


def named_by_path(tokens: Sequence[Token]) -> bool:
    """Whether a statement names a file as ``format.`/path` ``."""
    return any(
        form.text.lower() in FORMATS and dot.token_type is TokenType.DOT and ("/" in path.text or ":" in path.text)
        for form, dot, path in zip(tokens, tokens[1:], tokens[2:], strict=False)
    )


def _braces(pattern: str) -> Iterator[str]:
    """`a{b,c}` as `ab` and `ac`."""
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return ("".join(chosen) for chosen in itertools.product(*choices))


def matches(file: VolumeFile, pattern: str) -> bool:
    """Whether a file's name fits a glob."""
    return any(file.local.match(choice) for choice in _braces(pattern))


def listing(lake: Lake, path: str) -> list[VolumeFile]:
    """The files at a path, below a folder or matched by a glob, by name; those that begin with `_` or `.` left out.

    Raises SqlError for a path outside of volumes, one that leads out of its volume, and one where nothing is.
    """
    path = path.removeprefix("dbfs:")
    local_path(lake.catalog, path)
    volume = "/".join([part for part in path.split("/") if part][:4])
    top = Path(local_path(lake.catalog, f"/{volume}"))
    inside = path.strip("/").removeprefix(volume).strip("/")
    if GLOB.search(inside):
        found: Iterable[Path] = {match for pattern in _braces(inside) for match in top.glob(pattern)}
    else:
        found = [top / inside]
    files = []
    for match in found:
        for file in match.rglob("*") if match.is_dir() else [match]:
            below = file.relative_to(match if match.is_dir() else match.parent)
            if not file.is_file() or any(part[0] in "_." for part in below.parts):
                continue
            if not file.resolve().is_relative_to(top.resolve()):
                raise SqlError("INVALID_PATH", f"The path {path!r} leads out of its volume.", "22023")
            files.append(VolumeFile(f"/{volume}/{file.relative_to(top).as_posix()}", file))
    if not files:
        raise SqlError("PATH_NOT_FOUND", f"Path does not exist: {path}.", "42K03")
    return sorted(files, key=lambda file: file.path)


def reader(session: SparkSession, form: str, options: dict[str, str], schema: str | None) -> DataFrameReader:
    """A reader of one format. Raises SqlError for a format or an option there is not."""
    if form not in READABLE:
        raise unsupported(f"files of the format {form.upper()}: there are {', '.join(sorted(READABLE))}")
    for option in options:
        if option.lower() not in OPTIONS[form]:
            raise unsupported(f"the option {option} for files of the format {form.upper()}")
    given = session.read.format(READABLE[form]).options(**options)
    return given.schema(schema) if schema else given


def load(source: DataFrameReader, found: Sequence[VolumeFile]) -> Any:
    """The rows of files as a data frame."""
    return source.load([f"file://{file.local}" for file in found])


def rows_of(session: SparkSession, form: str, options: dict[str, str], found: Sequence[VolumeFile]) -> DataFrame:
    """The rows of files whose columns are told from the files: types that differ become one that holds both."""
    frame = load(reader(session, form, options, None), found)
    if form == "binaryfile":
        # Sail gives the machine's path, without its first slash.
        inside = found[0].path.split("/", 5)[-1]
        skipped = len(str(found[0].local)) - len(inside)
        top = "/".join(found[0].path.split("/")[:5])
        path = f"concat('dbfs:{top}/', substring(path, {skipped}))"
        return frame.selectExpr(f"{path} AS path", "modificationTime", "length", "content")
    try:
        _ = frame.columns
    except PySparkException as error:
        if "Fail to merge schema" not in str(error):
            raise
        types: dict[str, str] = {}
        for file in found:
            for field in load(reader(session, form, options, None), [file]).schema.fields:
                types[field.name] = _wider(types.get(field.name), field.dataType.simpleString())
        schema = ", ".join(f"{quoted(name)} {kind}" for name, kind in types.items())
        return load(reader(session, form, options, schema), found)
    return frame


def _wider(one: str | None, other: str) -> str:
    if one in (None, other):
        return other
    return "double" if {one, other} == {"bigint", "double"} else "string"


def read_path(lake: Lake, session: SparkSession, form: str, path: str) -> DataFrame:
    """``format.`path` ``: the files as they are, with every option at its default."""
    if form == "delta":
        local = local_path(lake.catalog, path)
        if not lake.tables.exists(f"file://{local}"):
            raise SqlError("DELTA_TABLE_NOT_FOUND", f"{path} is not a Delta table.", "42P01")
        return session.read.format("delta").load(f"file://{local}")
    options = {"inferSchema": "true"} if form == "json" else {}
    return rows_of(session, form, options, listing(lake, path))


def text_of(value: str) -> str:
    """The value of an argument that must be a literal. Raises SqlError."""
    literal = parsed(f"SELECT {value}").expressions[0]
    if isinstance(literal, (exp.Literal, exp.Boolean)):
        return literal.name if isinstance(literal, exp.Literal) else str(literal.this).lower()
    if isinstance(literal, exp.Neg) and isinstance(literal.this, exp.Literal):
        return f"-{literal.name}"
    raise SqlError("NON_FOLDABLE_ARGUMENT", f"{value} must be a literal.", "42K08")


def read_files(lake: Lake, session: SparkSession, call: Call) -> DataFrame:
    """`read_files(path, format => …, schema => …, …)`. Raises SqlError."""
    named = {name: text_of(value) for name, value in call.named.items()}
    path = text_of(call.positional[0]) if call.positional else named.pop("path", "")
    found = listing(lake, path)
    pattern = named.pop("filenamepattern", None) or named.pop("pathglobfilter", None)
    if pattern:
        found = [file for file in found if matches(file, pattern)]
        if not found:
            raise SqlError("PATH_NOT_FOUND", f"No file below {path} matches {pattern}.", "42K03")
    form = named.pop("format", "").lower() or SUFFIXES.get(found[0].local.suffix.lower(), "")
    if not form:
        raise SqlError(
            "CF_CANNOT_INFER_FORMAT", f"The format of {found[0].path} cannot be told: give `format`.", "42K03"
        )
    schema, hints = named.pop("schema", None), named.pop("schemahints", None)
    if form in ("csv", "json") and not schema:
        named.setdefault("inferschema", named.pop("infercolumntypes", "true"))
    frame: DataFrame = (
        load(reader(session, form, named, schema), found) if schema else rows_of(session, form, named, found)
    )
    return frame.selectExpr(*_hinted(frame.columns, hints)) if hints else frame


def _hinted(columns: list[str], hints: str) -> list[str]:
    wanted = {column.name.lower(): column.args["kind"] for column in column_definitions(hints)}
    return [
        f"CAST({quoted(name)} AS {wanted[name.lower()].sql('databricks')}) AS {quoted(name)}"
        if name.lower() in wanted
        else quoted(name)
        for name in columns
    ]


def column_definitions(text: str) -> list[exp.ColumnDef]:
    """`id INT, name STRING` as parsed columns. Raises SqlError."""
    schema = parsed(f"CREATE TABLE t ({text})").this
    if not isinstance(schema, exp.Schema) or not all(isinstance(c, exp.ColumnDef) for c in schema.expressions):
        raise SqlError("PARSE_SYNTAX_ERROR", f"{text} is not a list of columns and types.", "42601")
    return schema.expressions


def list_files(lake: Lake, words: Words) -> pa.Table:
    """LIST '/Volumes/…' [LIMIT n]."""
    words.expect("LIST")
    path = words.string().removeprefix("dbfs:").rstrip("/")
    limit = words.number() if words.take("LIMIT") else None
    words.end()
    local = Path(local_path(lake.catalog, path if path.startswith(TOP) else f"{path}/"))
    if not local.exists():
        raise SqlError("PATH_NOT_FOUND", f"Path does not exist: {path}.", "42K03")
    inside = sorted(local.iterdir()) if local.is_dir() else [local]
    top = path if local.is_dir() else path.rpartition("/")[0]
    entries = [entry for entry in inside if not entry.is_symlink()][:limit]
    stats = [entry.stat() for entry in entries]
    names = [entry.name + "/" * entry.is_dir() for entry in entries]
    moments = [datetime.datetime.fromtimestamp(stat.st_mtime, datetime.UTC) for stat in stats]
    sizes = [0 if entry.is_dir() else stat.st_size for entry, stat in zip(entries, stats, strict=True)]
    return pa.table(
        {
            "path": pa.array([f"{top}/{name}" for name in names], pa.string()),
            "name": pa.array(names, pa.string()),
            "size": pa.array(sizes, pa.int64()),
            "modification_time": pa.array(moments, pa.timestamp("us", "UTC")),
        }
    )
