"""What a Databricks notebook finds in its namespace, so that the same files run here."""

import importlib
import os
from collections.abc import Callable
from typing import Any

from IPython.core.getipython import get_ipython


class _Lazy:
    """Stands for an object that is made when it is first used: most notebooks need no Spark session."""

    def __init__(self, make: Callable[[], Any]):
        self.__dict__["_make"] = make

    def __getattr__(self, name: str) -> Any:
        if "_made" not in self.__dict__:
            self.__dict__["_made"] = self._make()
        return getattr(self.__dict__["_made"], name)


def _spark() -> Any:
    sql = importlib.import_module("pyspark.sql")
    return sql.SparkSession.builder.remote(os.environ["SPARK_REMOTE"]).getOrCreate()


def _dbutils() -> Any:
    return importlib.import_module("databricks.sdk").WorkspaceClient().dbutils


class _Widgets:
    """Parameters of a notebook: the default, unless the environment has SOTA_WIDGET_<NAME>."""

    def __init__(self) -> None:
        self._defaults: dict[str, str] = {}

    def text(self, name: str, defaultValue: str = "", label: str | None = None) -> None:
        self._defaults[name] = defaultValue

    def get(self, name: str) -> str:
        return os.environ.get(f"SOTA_WIDGET_{name.upper()}", self._defaults[name])


class _Dbutils:
    """The SDK's own dbutils, with widgets that know their defaults."""

    def __init__(self) -> None:
        self.widgets = _Widgets()
        self._remote = _Lazy(_dbutils)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._remote, name)


def _on_cluster_only(line: str) -> None:
    """`%pip` and `%restart_python` prepare a cluster; here the environment is ready."""


_shell = get_ipython()
_shell.user_ns["spark"] = _Lazy(_spark)
_shell.user_ns["dbutils"] = _Dbutils()
for _name in ("pip", "restart_python"):
    _shell.register_magic_function(_on_cluster_only, magic_name=_name)
