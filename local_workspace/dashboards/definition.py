"""What a Lakeview dashboard's JSON says: its datasets, and the widgets that query them."""

import json
from dataclasses import dataclass
from typing import Any

from local_workspace.errors import BadRequest

AGGREGATES = ("count(", "sum(", "avg(", "min(", "max(", "median(", "stddev(", "percentile(", "any_value(", "measure(")


@dataclass(frozen=True)
class Widget:
    """One widget of a page, and the statement that fills it."""

    page: str
    name: str
    title: str
    kind: str
    """`counter`, `table`, `bar`, `line`, …, or `text`."""
    sql: str
    """Empty for text."""
    encodings: dict[str, Any]
    text: str = ""


def parsed(serialized: str) -> dict[str, Any]:
    """The definition. Raises BadRequest when `serialized_dashboard` is not a JSON object."""
    try:
        definition = json.loads(serialized)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"serialized_dashboard is not JSON: {error}") from error
    if not isinstance(definition, dict):
        raise BadRequest("serialized_dashboard must be a JSON object with datasets and pages")
    for name in ("datasets", "pages"):
        if not isinstance(definition.get(name, []), list):
            raise BadRequest(f"serialized_dashboard.{name} must be a list")
    return definition


def widgets(definition: dict[str, Any]) -> list[Widget]:
    """Every widget, in the order of its page. Raises BadRequest naming one whose dataset does not exist."""
    datasets = {dataset["name"]: _text(dataset) for dataset in definition.get("datasets", []) if "name" in dataset}
    found = []
    for page in definition.get("pages", []):
        for item in page.get("layout", []):
            found.append(_widget(page.get("displayName") or page.get("name") or "", item.get("widget", {}), datasets))
    return found


def _widget(page: str, widget: dict[str, Any], datasets: dict[str, str]) -> Widget:
    name, spec = widget.get("name", ""), widget.get("spec", {})
    lines = widget.get("multilineTextboxSpec", {}).get("lines") or widget.get("textbox_spec") or ""
    if not spec:
        return Widget(page, name, "", "text", "", {}, "".join(lines))
    queries = [query.get("query", {}) for query in widget.get("queries", [])]
    if not queries:
        raise BadRequest(f"widget {name!r} has no query")
    frame = spec.get("frame", {})
    title = frame.get("title", "") if frame.get("showTitle", True) else ""
    return Widget(
        page, name, title, spec.get("widgetType", "table"), _sql(name, queries[0], datasets), spec.get("encodings", {})
    )


def _sql(name: str, query: dict[str, Any], datasets: dict[str, str]) -> str:
    """The widget's own query over its dataset: its fields, grouped unless it is disaggregated."""
    dataset = query.get("datasetName", "")
    if dataset not in datasets:
        raise BadRequest(f"widget {name!r} queries dataset {dataset!r}, which the dashboard does not have")
    fields = query.get("fields") or []
    if not fields:
        return f"SELECT * FROM ({datasets[dataset]})"
    columns = ", ".join(f"{field['expression']} AS `{field['name']}`" for field in fields)
    grouped = not query.get("disaggregated") and any(_aggregates(field["expression"]) for field in fields)
    plain = [field["expression"] for field in fields if not _aggregates(field["expression"])]
    group = f" GROUP BY {', '.join(plain)}" if grouped and plain else ""
    distinct = "" if grouped or query.get("disaggregated") else "DISTINCT "
    return f"SELECT {distinct}{columns} FROM ({datasets[dataset]}){group}"


def _aggregates(expression: str) -> bool:
    return expression.strip().lower().startswith(AGGREGATES)


def _text(dataset: dict[str, Any]) -> str:
    lines = dataset.get("queryLines")
    return ("".join(lines) if isinstance(lines, list) else dataset.get("query", "")).rstrip().rstrip(";")
