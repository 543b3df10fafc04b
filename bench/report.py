"""One figure and the table it is shown in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A measured value, its aim, and the baseline measured in the same run."""

    name: str
    value: float
    unit: str
    aim: str
    baseline: float | None = None
    baseline_name: str = ""

    def row(self) -> str:
        """The figure as a line of a Markdown table."""
        against = f"{_number(self.baseline)} {self.unit} ({self.baseline_name})" if self.baseline is not None else ""
        ratio = f"{self.value / self.baseline:.2f}" if self.baseline else ""
        return f"| {self.name} | {_number(self.value)} {self.unit} | {self.aim} | {against} | {ratio} |"


def _number(value: float) -> str:
    """Three digits, or whole thousands in full."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(figures: list[Figure]) -> str:
    """The figures as a Markdown table."""
    head = "| figure | measured | aim | baseline in the same run | ratio |\n|---|---|---|---|---|"
    return "\n".join([head, *(figure.row() for figure in figures)])
