"""`dbutils.widgets`: parameters by name, with defaults."""

from collections.abc import Mapping, Sequence


class InputWidgetNotDefinedError(KeyError):
    """There is neither a widget nor a parameter of this name."""

    def __str__(self) -> str:
        return f"InputWidgetNotDefined: No input widget named {self.args[0]} is defined"


class Widgets:
    """Widgets of a notebook. A parameter of the run goes before a widget's default, as in a job on Databricks."""

    def __init__(self, parameters: Mapping[str, str]):
        self._parameters = dict(parameters)
        self._defaults: dict[str, str] = {}

    def text(self, name: str, defaultValue: str, label: str | None = None) -> None:
        """A free text."""
        self._defaults[name] = str(defaultValue)

    def dropdown(self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None) -> None:
        """One of `choices`. Raises ValueError when the default is none of them."""
        self._chosen(name, [defaultValue], choices)

    def combobox(self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None) -> None:
        """One of `choices`, or a free text."""
        self._defaults[name] = str(defaultValue)

    def multiselect(
        self, name: str, defaultValue: str | Sequence[str], choices: Sequence[str], label: str | None = None
    ) -> None:
        """Some of `choices`, joined by commas. Raises ValueError when a default is none of them."""
        defaults = [defaultValue] if isinstance(defaultValue, str) else list(defaultValue)
        self._chosen(name, defaults, choices)

    def get(self, name: str) -> str:
        """A widget's value. Raises InputWidgetNotDefinedError."""
        if name in self._parameters:
            return self._parameters[name]
        if name in self._defaults:
            return self._defaults[name]
        raise InputWidgetNotDefinedError(name)

    def getArgument(self, name: str, optional: str | None = None) -> str:
        """A widget's value, or `optional` when it is not defined. Raises InputWidgetNotDefinedError without that."""
        try:
            return self.get(name)
        except InputWidgetNotDefinedError:
            if optional is None:
                raise
            return optional

    def getAll(self) -> dict[str, str]:
        """All values by name."""
        return self._defaults | self._parameters

    def remove(self, name: str) -> None:
        """Remove a widget. Raises InputWidgetNotDefinedError."""
        self.get(name)
        self._parameters.pop(name, None)
        self._defaults.pop(name, None)

    def removeAll(self) -> None:
        """Remove all widgets."""
        self._parameters.clear()
        self._defaults.clear()

    def _chosen(self, name: str, defaults: list[str], choices: Sequence[str]) -> None:
        for default in defaults:
            if default not in choices:
                raise ValueError(f"the default {default!r} of widget {name!r} is not among its choices {list(choices)}")
        self._defaults[name] = ",".join(map(str, defaults))
