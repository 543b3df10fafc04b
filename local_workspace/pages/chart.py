"""Bars, lines and points of a dashboard as SVG."""

from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM = 480, 220, 60, 24
LABELS = 8
"""More labels than this on an axis run into each other."""


@dataclass(frozen=True)
class Series:
    """Numbers against labels."""

    labels: list[str]
    values: list[float]


def series(rows: list[list[str | None]], x: int, y: int) -> Series | None:
    """Two columns of rows, in the order of the first; None when the second has no numbers."""
    try:
        pairs = sorted(((str(row[x]), float(row[y] or 0)) for row in rows), key=lambda pair: _order(pair[0]))
    except ValueError:
        return None
    return Series([label for label, _ in pairs], [value for _, value in pairs]) if pairs else None


def _order(label: str) -> tuple[float, str]:
    """Numbers by their value, before text."""
    try:
        return float(label), ""
    except ValueError:
        return float("inf"), label


def svg(kind: str, data: Series) -> str:
    """The chart of one series: `bar`, else a line."""
    low, high = min(0.0, *data.values), max(0.0, *data.values)
    span = (high - low) or 1.0
    step = (WIDTH - LEFT) / len(data.values)

    def down(value: float) -> float:
        return (HEIGHT - BOTTOM) * (1 - (value - low) / span)

    parts = [
        f'<text x="{LEFT - 6}" y="{max(down(value), 10):.0f}" text-anchor="end">{value:,.4g}</text>'
        for value in sorted({low, high})
    ]
    every = -(-len(data.labels) // LABELS)
    for i, label in enumerate(data.labels):
        if i % every == 0:
            x = LEFT + (i + 0.5) * step
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(label[:18])}</text>')
    if kind == "bar":
        for i, value in enumerate(data.values):
            top, base = sorted((down(value), down(0)))
            x = LEFT + (i + 0.1) * step
            title = f"<title>{escape(data.labels[i])}: {value:,.6g}</title>"
            parts.append(
                f'<rect x="{x:.1f}" y="{top:.1f}" width="{step * 0.8:.1f}" height="{base - top:.1f}">{title}</rect>'
            )
    else:
        points = " ".join(f"{LEFT + (i + 0.5) * step:.1f},{down(value):.1f}" for i, value in enumerate(data.values))
        parts.append(f'<polyline points="{points}"/>')
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'
