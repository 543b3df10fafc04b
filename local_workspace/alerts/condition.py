"""An alert's condition over the rows of its query: aggregate, compare, decide."""

import operator
import statistics
from collections.abc import Callable
from typing import Any

from local_workspace.alerts.wire import Column, Evaluation
from local_workspace.errors import BadRequest
from local_workspace.sql.ask import Answer

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "EQUAL": operator.eq,
    "NOT_EQUAL": operator.ne,
    "GREATER_THAN": operator.gt,
    "GREATER_THAN_OR_EQUAL": operator.ge,
    "LESS_THAN": operator.lt,
    "LESS_THAN_OR_EQUAL": operator.le,
}
AGGREGATIONS: dict[str, Callable[[list[float]], float]] = {
    "SUM": sum,
    "AVG": statistics.fmean,
    "MEDIAN": statistics.median,
    "STDDEV": lambda values: statistics.stdev(values) if len(values) > 1 else 0.0,
}


def outcome(evaluation: Evaluation, answer: Answer) -> tuple[str, Any]:
    """The state that the rows put an alert in, and the value it comes from. Raises BadRequest naming the column."""
    if not answer.rows:
        return evaluation.empty_result_state, None
    value = aggregate(evaluation.source, answer)
    if evaluation.comparison_operator in ("IS_NULL", "IS_NOT_NULL"):
        met = (value is None) == (evaluation.comparison_operator == "IS_NULL")
        return ("TRIGGERED" if met else "OK"), value
    threshold = evaluation.threshold
    other = aggregate(threshold.column, answer) if threshold and threshold.column else None
    if threshold and threshold.value:
        other = threshold.value.given
    if value is None or other is None:
        return "OK", value
    return ("TRIGGERED" if COMPARISONS[evaluation.comparison_operator](*_alike(value, other)) else "OK"), value


def aggregate(column: Column, answer: Answer) -> Any:
    """A column's value over the rows: of the first row, unless an aggregation is asked for."""
    try:
        index = [name.lower() for name in answer.columns].index(column.name.lower())
    except ValueError:
        names = ", ".join(answer.columns)
        raise BadRequest(f"the query has no column {column.name!r}; it has {names}") from None
    values = [row[index] for row in answer.rows if row[index] is not None]
    match column.aggregation:
        case None:
            return answer.rows[0][index]
        case "COUNT":
            return len(values)
        case "COUNT_DISTINCT":
            return len(set(values))
    if not values:
        return None
    numbers = [_number(value, column.name) for value in values]
    if column.aggregation in AGGREGATIONS:
        return AGGREGATIONS[column.aggregation](numbers)
    return min(numbers) if column.aggregation == "MIN" else max(numbers)


def _number(value: Any, name: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise BadRequest(f"column {name!r} has {value!r}, which is not a number") from None


def _alike(value: Any, other: Any) -> tuple[Any, Any]:
    """Both as numbers, truth values or text, as the threshold is."""
    if isinstance(other, bool):
        return str(value).lower() == "true", other
    try:
        return float(value), float(other)
    except (TypeError, ValueError):
        if isinstance(other, int | float):
            raise BadRequest(f"{value!r} cannot be compared with the number {other:g}") from None
        return str(value), str(other)
