"""The typed columns of a vector index: what a schema may name, and which values fit."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa

METADATA_KEY = b"vector_index"
GREATEST_FLOAT32 = float(np.finfo(np.float32).max)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false is needed")
    return value


def _integer(bits: int, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != math.trunc(value):
        raise ValueError("an integer is needed")
    if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        raise ValueError(f"an integer of {bits} bits is needed")
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a finite number is needed")
    return float(value)


def _float32(value: Any) -> float:
    number = _number(value)
    if abs(number) > GREATEST_FLOAT32:
        raise ValueError("a 32-bit float is needed")
    return number


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a string is needed")
    value.encode()  # a lone surrogate is no text
    return value


def _date(value: Any) -> date:
    return date.fromisoformat(_string(value))


def _timestamp(value: Any) -> datetime:
    moment = datetime.fromisoformat(_string(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _sql_string(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


@dataclass(frozen=True)
class ColumnType:
    """A type of column: how Arrow stores it, which JSON values it takes, how SQL writes them."""

    arrow: pa.DataType
    accept: Callable[[Any], Any]
    """The value to store for a JSON value. Raises ValueError."""
    literal: Callable[[Any], str] = str

    def sql(self, value: Any) -> str:
        """The value as an SQL literal. Raises ValueError when it does not fit."""
        return self.literal(self.accept(value))


def _array(element: ColumnType) -> ColumnType:
    def accept(value: Any) -> list:
        if not isinstance(value, list):
            raise ValueError("an array is needed")
        return [None if item is None else element.accept(item) for item in value]

    return ColumnType(pa.list_(element.arrow), accept)


_TYPES = {
    "boolean": ColumnType(pa.bool_(), _boolean, lambda value: str(value).lower()),
    "byte": ColumnType(pa.int8(), partial(_integer, 8)),
    "short": ColumnType(pa.int16(), partial(_integer, 16)),
    "integer": ColumnType(pa.int32(), partial(_integer, 32)),
    "long": ColumnType(pa.int64(), partial(_integer, 64)),
    "float": ColumnType(pa.float32(), _float32, repr),
    "double": ColumnType(pa.float64(), _number, repr),
    "string": ColumnType(pa.string(), _string, _sql_string),
    "date": ColumnType(pa.date32(), _date, lambda value: f"date '{value.isoformat()}'"),
    "timestamp": ColumnType(pa.timestamp("us", tz="UTC"), _timestamp, lambda value: f"timestamp '{value.isoformat()}'"),
}
_SYNONYMS = {"bool": "boolean", "tinyint": "byte", "smallint": "short", "int": "integer", "bigint": "long"}


def column_type(name: str) -> ColumnType:
    """The type a schema calls `name`. Raises ValueError listing what there is."""
    text = name.lower().replace(" ", "")
    if text.startswith("array<") and text.endswith(">"):
        return _array(element_type(text))
    canonical = _SYNONYMS.get(text, text)
    if canonical not in _TYPES:
        raise ValueError(f"type {name!r} is not supported; use {', '.join(_TYPES)} or array<…> of them")
    return _TYPES[canonical]


def element_type(name: str) -> ColumnType:
    """The type of the elements of an array type."""
    return column_type(name.replace(" ", "")[len("array<") : -1])


def is_vector_type(name: str) -> bool:
    """Whether a column of that type can hold vectors."""
    return name.lower().replace(" ", "") in ("array<float>", "array<double>")


@dataclass(frozen=True)
class Columns:
    """The columns of an index by name; `vector` is the one that holds `dimension` floats."""

    primary_key: str
    vector: str
    dimension: int
    type_names: dict[str, str]

    @cached_property
    def types(self) -> dict[str, ColumnType]:
        """The type of every column but the vector."""
        return {name: column_type(text) for name, text in self.type_names.items() if name != self.vector}

    @property
    def texts(self) -> list[str]:
        """The columns a full-text search reads."""
        return [n for n, t in self.types.items() if t.arrow == pa.string() and n != self.primary_key]

    def arrow(self) -> pa.Schema:
        """As an Arrow schema, from which `read` brings the columns back."""
        fields = [
            pa.field(self.vector, pa.list_(pa.float32(), self.dimension), nullable=False)
            if name == self.vector
            else pa.field(name, column_type(text).arrow, nullable=name != self.primary_key)
            for name, text in self.type_names.items()
        ]
        return pa.schema(fields, metadata={METADATA_KEY: json.dumps(asdict(self)).encode()})

    @classmethod
    def read(cls, schema: pa.Schema) -> "Columns":
        """The columns that `arrow` wrote into a schema."""
        return cls(**json.loads(schema.metadata[METADATA_KEY]))

    def vector_of(self, value: Any) -> np.ndarray:
        """A vector of this index. Raises ValueError naming both dimensions."""
        if not isinstance(value, list) or not set(map(type, value)) <= {int, float}:
            raise ValueError(f"{self.vector}: an array of {self.dimension} numbers is needed")
        if len(value) != self.dimension:
            raise ValueError(f"{self.vector}: the vector has {len(value)} dimensions, the index has {self.dimension}")
        try:
            vector = np.array(value, np.float64)
        except OverflowError as error:
            raise ValueError(f"{self.vector}: 32-bit floats are needed") from error
        if not np.abs(vector).max() <= GREATEST_FLOAT32:  # NaN is not either
            raise ValueError(f"{self.vector}: finite 32-bit floats are needed")
        return vector.astype(np.float32)

    def table(self, rows: list[dict[str, Any]]) -> pa.Table:
        """Rows as they are stored; the values are those that `row` gave."""
        schema = self.arrow()
        position = schema.get_field_index(self.vector)
        table = pa.Table.from_pylist(rows, schema.remove(position))
        vectors = np.concatenate([row[self.vector] for row in rows])
        return table.add_column(
            position, schema.field(position), pa.FixedSizeListArray.from_arrays(vectors, self.dimension)
        )

    def row(self, value: Any) -> dict[str, Any]:
        """A row to store, from a JSON object. Raises ValueError naming the column that is wrong."""
        if not isinstance(value, dict):
            raise ValueError("an object is needed")
        if unknown := [name for name in value if name not in self.type_names]:
            raise ValueError(f"unknown columns {', '.join(map(repr, unknown))}")
        if value.get(self.primary_key) is None:
            raise ValueError(f"{self.primary_key}: the primary key is missing")
        row: dict[str, Any] = {self.vector: self.vector_of(value.get(self.vector))}
        for name, kind in self.types.items():
            try:
                row[name] = None if value.get(name) is None else kind.accept(value[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return row
