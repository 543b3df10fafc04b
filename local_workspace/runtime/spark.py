"""`spark`: a Spark Connect session that is made when it is first used, since pyspark takes a second to import."""

from typing import Any


class LazySession:
    """Stands for the session of `SPARK_REMOTE`; everything asked of it is asked of the real one."""

    def __init__(self) -> None:
        self._session: Any = None

    def session(self) -> Any:
        """The real session, made at the first call."""
        if self._session is None:
            from pyspark.sql import SparkSession

            self._session = SparkSession.builder.getOrCreate()
        return self._session

    def stop(self) -> None:
        """End the session, if there is one."""
        if self._session is not None:
            self._session.stop()
            self._session = None

    def sql_of(self, query: str, *args: Any, **kwargs: Any) -> Any:
        """`sql(...)` of the namespace."""
        return self.session().sql(query, *args, **kwargs)

    def table_of(self, name: str) -> Any:
        """`table(...)` of the namespace."""
        return self.session().table(name)

    def udf_of(self, *args: Any, **kwargs: Any) -> Any:
        """`udf(...)` of the namespace."""
        from pyspark.sql.functions import udf

        return udf(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # IPython and copy ask for hooks that no session has
            raise AttributeError(name)
        return getattr(self.session(), name)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """What `isinstance` sees: the real session's class once there is one."""
        return LazySession if self._session is None else type(self._session)

    def __repr__(self) -> str:
        return repr(self.session())


class AbsentContext:
    """`sc` and `sqlContext`: named, since old code imports them, but Spark Connect has neither."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotImplementedError(f"{self._name}.{name}: there is no SparkContext in Spark Connect; use `spark`")
