"""Spark Connect at its lasting address, with the genuine client."""

from collections.abc import Iterator
from urllib.parse import unquote

import grpc
import pytest
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql.connect.session import SparkSession

from local_workspace.tests.test_sql import lake_process, rows


@pytest.fixture(scope="module")
def spark(workspace) -> Iterator[SparkSession]:
    session = SparkSession.builder.remote(workspace.address["spark_remote"]).create()
    yield session
    session.stop()


@pytest.fixture
def table(workspace) -> str:
    rows(workspace, "CREATE OR REPLACE TABLE main.default.spark_t (id BIGINT, name STRING)")
    rows(workspace, "INSERT INTO main.default.spark_t VALUES (1, 'sql')")
    return "main.default.spark_t"


def test_spark_and_sql_see_each_others_rows(workspace, spark, table):
    assert [tuple(row) for row in spark.table(table).collect()] == [(1, "sql")]
    frame = spark.createDataFrame([(2, "frame")], "id long, name string")
    frame.write.mode("append").saveAsTable(table)
    frame.write.insertInto(table)
    spark.sql(f"UPDATE {table} SET name = 'both' WHERE id = 1").collect()
    found = rows(workspace, f"SELECT id, name FROM {table} ORDER BY id")
    assert found == [["1", "both"], ["2", "frame"], ["2", "frame"]]
    assert spark.table(table).filter("id = 2").count() == 2


def test_a_table_made_by_spark_is_in_the_catalog(workspace, spark):
    spark.sql("CREATE TABLE main.default.by_spark (id BIGINT, d DECIMAL(10,2), a STRUCT<x: INT>) USING DELTA").collect()
    spark.sql("INSERT INTO main.default.by_spark SELECT 1, 2.50, named_struct('x', 3)").collect()
    assert rows(workspace, "SELECT * FROM main.default.by_spark") == [["1", "2.50", '{"x":3}']]
    columns = workspace.client.tables.get("main.default.by_spark").columns
    assert [column.type_text for column in columns] == ["bigint", "decimal(10,2)", "struct<x:int>"]
    spark.sql("DROP TABLE main.default.by_spark").collect()
    with pytest.raises(AnalysisException):
        spark.table("main.default.by_spark").collect()


def test_a_later_catalog_is_reached_by_full_names(workspace, spark):
    rows(workspace, "CREATE CATALOG spark_later")
    rows(workspace, "CREATE TABLE spark_later.default.t AS SELECT 7 AS id")
    assert [row.id for row in spark.table("spark_later.default.t").collect()] == [7]
    rows(workspace, "DROP CATALOG spark_later CASCADE")


def test_what_cannot_be_made_is_refused_and_not_half_made(workspace, spark):
    with pytest.raises(PySparkException, match="UNSUPPORTED_FEATURE"):
        spark.sql("CREATE TABLE main.default.refused (id INT) USING csv").collect()
    assert not workspace.client.tables.exists("main.default.refused").table_exists


def test_functions_in_python_run_on_the_engine(spark):
    def doubled(frames):
        for frame in frames:
            yield frame * 2

    assert [row.id for row in spark.range(3).mapInPandas(doubled, "id long").orderBy("id").collect()] == [0, 2, 4]


def test_the_address_outlives_the_engine(workspace, table):
    rows(workspace, f"CREATE OR REPLACE VIEW main.default.spark_v AS SELECT id FROM {table}")
    engine = lake_process(workspace)
    engine.kill()
    engine.wait(10)
    session = SparkSession.builder.remote(workspace.address["spark_remote"]).create()
    try:
        assert session.table(table).count() == 1
        assert session.table("spark_v").count() == 1
    finally:
        session.stop()


@pytest.mark.parametrize("parameters", ["", "/;authorization=Bearer%20dapi0000", "/;authorization=Basic%20eDp5"])
def test_a_session_needs_a_token_of_the_workspace(workspace, parameters):
    address = workspace.address["spark_remote"].partition("/;")[0]
    session = SparkSession.builder.remote(address + parameters).create()
    with pytest.raises(PySparkException, match="valid token"):
        session.range(1).collect()


def test_what_is_no_request_of_spark_is_refused(workspace):
    address, _, parameters = workspace.address["spark_remote"].removeprefix("sc://").partition("/;")
    metadata = [("authorization", unquote(parameters.partition("=")[2]))]
    with grpc.insecure_channel(address) as channel:

        def status(method: str, content: bytes, metadata: list) -> str:
            call = channel.unary_stream(f"/spark.connect.SparkConnectService/{method}")
            with pytest.raises(grpc.RpcError) as raised:
                list(call(content, metadata=metadata, timeout=30))
            return raised.value.code().name

        for method in ("ExecutePlan", "AnalyzePlan", "ReleaseSession", "Config"):
            assert status(method, b"", []) == "UNAUTHENTICATED"
        assert status("ExecutePlan", b"\xff" * 1000, metadata) == "INVALID_ARGUMENT"
        assert status("AnalyzePlan", b"\xff" * 10_000_000, metadata) == "INVALID_ARGUMENT"
        assert status("ExecutePlan", b"", metadata) == "INTERNAL"
        assert status("NoSuchMethod", b"", metadata) == "UNIMPLEMENTED"


def test_pyspark_takes_the_token_alone_on_localhost(workspace):
    port = workspace.address["spark_remote"].partition("/;")[0].rpartition(":")[2]
    session = SparkSession.builder.remote(f"sc://localhost:{port}/;token={workspace.token}").create()
    assert session.range(2).count() == 2
    session.stop()
