"""`spark.sql` over Spark Connect: the statements of the lake, namespaces, arguments, files in volumes."""

import datetime
import io
from collections.abc import Iterator
from decimal import Decimal

import pytest
from pyspark.errors import AnalysisException, ParseException
from pyspark.sql.connect.session import SparkSession

from local_workspace.tests.test_sql import rows


@pytest.fixture(scope="module")
def spark(workspace) -> Iterator[SparkSession]:
    rows(workspace, "CREATE SCHEMA IF NOT EXISTS main.connect")
    rows(workspace, "CREATE VOLUME IF NOT EXISTS main.connect.files")
    session = SparkSession.builder.remote(workspace.address["spark_remote"]).create()
    session.sql("USE main.connect")
    yield session
    session.stop()
    rows(workspace, "DROP SCHEMA main.connect CASCADE")


def collected(spark, sql: str, args=None) -> list[tuple]:
    return [tuple(row) for row in spark.sql(sql, args).collect()]


def test_commands_of_the_lake(workspace, spark):
    assert collected(spark, "CREATE SCHEMA IF NOT EXISTS main.by_spark COMMENT 'x'") == []
    collected(spark, "CREATE OR REPLACE TABLE kept (id BIGINT, tags ARRAY<STRING>, v VARIANT) CLUSTER BY (id)")
    assert collected(spark, "INSERT INTO kept (id, tags) VALUES (1, array('a')), (2, NULL)") == [(2, 2)]
    assert collected(spark, "UPDATE kept SET tags = array('b') WHERE id = 2") == [(1,)]
    collected(spark, "COMMENT ON TABLE kept IS 'by spark'")
    assert workspace.client.tables.get("main.connect.kept").comment == "by spark"
    history = spark.sql("DESCRIBE HISTORY kept")
    assert history.columns[:3] == ["version", "timestamp", "operation"]
    assert history.filter("operation = 'UPDATE'").count() == 1
    assert collected(spark, "OPTIMIZE kept")[0][1]["numFilesAdded"] == 1
    collected(spark, "VACUUM kept")
    collected(spark, "GRANT SELECT ON TABLE kept TO `data team`")
    assert collected(spark, "SHOW GRANTS ON TABLE kept")[0][:2] == ("data team", "SELECT")
    assert ("connect", "kept", False) in collected(spark, "SHOW TABLES")
    spark.sql("SHOW TABLES").show()
    spark.sql("DROP SCHEMA main.by_spark").show()


def test_arguments_of_queries_and_commands(spark):
    columns = "id BIGINT, name STRING, d DATE, t TIMESTAMP, n TIMESTAMP_NTZ, p DECIMAL(10, 2), f DOUBLE, b BOOLEAN"
    collected(spark, f"CREATE OR REPLACE TABLE typed ({columns})")
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)
    values = {
        "id": 1,
        "name": "it's :id",
        "d": moment.date(),
        "t": moment.replace(tzinfo=datetime.UTC),
        "p": Decimal("2.50"),
        "f": 0.1,
        "b": True,
    }
    collected(spark, "INSERT INTO typed VALUES (:id, :name, :d, :t, NULL, :p, :f, :b)", values)
    collected(spark, "INSERT INTO typed (id, name) VALUES (?, ?)", [2, None])
    shown = "CAST(d AS STRING), CAST(t AS STRING), CAST(p AS STRING), f, b"
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    assert collected(spark, f"SELECT name, {shown} FROM typed WHERE id = :id", {"id": 1}) == [
        ("it's :id", "2026-01-02", "2026-01-02 03:04:05.678901", "2.50", 0.1, True)
    ]
    assert collected(spark, "SELECT name FROM typed WHERE id = ?", [2]) == [(None,)]
    assert collected(spark, "DELETE FROM typed WHERE id = :id", {"id": 2}) == [(1,)]
    with pytest.raises(AnalysisException, match="UNBOUND_SQL_PARAMETER"):
        spark.sql("DELETE FROM typed WHERE id = ?")
    with pytest.raises(AnalysisException, match="plain value"):
        spark.sql("DELETE FROM typed WHERE id IN (:ids)", {"ids": [1, 2]})
    frame = spark.range(4)
    assert spark.sql("SELECT sum(id) AS s FROM {numbers} WHERE id < 3", numbers=frame).collect()[0].s == 3


def test_errors_have_their_conditions(spark):
    for sql, condition, kind in [
        ("CREATE SCHEMA main.connect", "SCHEMA_ALREADY_EXISTS", AnalysisException),
        ("SELEC 1", "PARSE_SYNTAX_ERROR", ParseException),
        ("SELECT nope FROM range(1)", "UNRESOLVED_COLUMN.WITH_SUGGESTION", AnalysisException),
        ("SELECT * FROM main.connect.no_such", "TABLE_OR_VIEW_NOT_FOUND", AnalysisException),
        ("DROP TABLE no_such", "TABLE_OR_VIEW_NOT_FOUND", AnalysisException),
        ("DESCRIBE no_such", "TABLE_OR_VIEW_NOT_FOUND", AnalysisException),
    ]:
        with pytest.raises(kind) as raised:
            spark.sql(sql).collect()
        assert raised.value.getCondition() == condition
    with pytest.raises(AnalysisException, match=r"`main`.`connect`.`no_such`"):
        spark.table("main.connect.no_such").collect()


def test_a_session_stands_where_it_is_told(workspace, spark):
    me = workspace.client.current_user.me().user_name
    facts = "SELECT current_catalog(), current_schema(), current_user()"
    assert collected(spark, facts) == [("main", "connect", me)]
    collected(spark, "CREATE CATALOG spark_new")
    try:
        spark.catalog.setCurrentCatalog("spark_new")
        assert (spark.catalog.currentCatalog(), spark.catalog.currentDatabase()) == ("spark_new", "default")
        spark.range(2).write.saveAsTable("here")
        assert spark.table("here").count() == spark.table("spark_new.default.here").count() == 2
        assert "spark_new" in [catalog.name for catalog in spark.catalog.listCatalogs()]
        collected(spark, "USE CATALOG main")
        collected(spark, "USE SCHEMA connect")
        assert collected(spark, facts) == [("main", "connect", me)]
        with pytest.raises(AnalysisException, match="NO_SUCH_CATALOG"):
            spark.catalog.setCurrentCatalog("no_such")
        with pytest.raises(AnalysisException, match="SCHEMA_NOT_FOUND"):
            spark.sql("USE main.no_such")
    finally:
        collected(spark, "DROP CATALOG spark_new CASCADE")


def test_settings_of_the_session(spark):
    assert collected(spark, "SET spark.sql.session.timeZone = Europe/Paris")[0][1] == "Europe/Paris"
    assert spark.conf.get("spark.sql.session.timeZone") == "Europe/Paris"
    collected(spark, "RESET spark.sql.session.timeZone")
    assert spark.conf.get("spark.sql.session.timeZone") != "Europe/Paris"


def test_files_lie_in_volumes(workspace, spark):
    workspace.client.files.upload("/Volumes/main/connect/files/in/a.csv", io.BytesIO(b"a,b\n1,2\n3,4\n"))
    read = spark.read.option("header", True)
    assert [tuple(row) for row in read.csv("/Volumes/main/connect/files/in/a.csv").collect()] == [
        ("1", "2"),
        ("3", "4"),
    ]
    assert read.csv("/Volumes/main/connect/files/in/*.csv").columns == ["a", "b"]
    frame = spark.range(5)
    frame.write.parquet("/Volumes/main/connect/files/out")
    names = [entry.name for entry in workspace.client.files.list_directory_contents("/Volumes/main/connect/files/out")]
    assert any(name.endswith(".parquet") for name in names)
    assert spark.read.parquet("dbfs:/Volumes/main/connect/files/out").count() == 5
    frame.write.save("/Volumes/main/connect/files/delta")
    assert spark.read.load("/Volumes/main/connect/files/delta").count() == 5


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("/etc/passwd", "below /Volumes"),
        ("file:///etc/passwd", "below /Volumes"),
        ("/Volumes/main/connect/files/../../../../state.db", "leads out"),
        ("/Volumes/main/connect/files/link/passwd", "leads out"),
        ("/Volumes/main/connect/none/x", "VOLUME_DOES_NOT_EXIST"),
        ("/Volumes/main", "names no volume"),
    ],
)
def test_no_file_of_the_machine_is_read_or_written(workspace, spark, path, refusal):
    link = workspace.root / "volumes" / "main" / "connect" / "files" / "link"
    if not link.is_symlink():
        link.symlink_to("/etc")
    with pytest.raises(AnalysisException, match=refusal):
        spark.read.text(path).collect()
    with pytest.raises(AnalysisException, match=refusal):
        spark.range(1).write.parquet(path)
    with pytest.raises(AnalysisException, match="UNSUPPORTED_FEATURE"):
        spark.read.table("text.`/etc/passwd`").collect()


def test_views_functions_and_files_in_queries_and_plans(workspace, spark):
    workspace.client.files.upload("/Volumes/main/connect/files/q/a.csv", io.BytesIO(b"a,b\n1,x\n3,y\n"))
    collected(spark, "CREATE OR REPLACE TABLE base AS SELECT id, parse_json('{\"k\": 7}') AS v FROM range(3)")
    collected(spark, "CREATE OR REPLACE VIEW seen AS SELECT id, current_user() AS who FROM base WHERE id > 0")
    collected(spark, "CREATE OR REPLACE FUNCTION twice(x BIGINT) RETURNS BIGINT RETURN x * 2")
    me = workspace.client.current_user.me().user_name
    assert collected(spark, "SELECT * FROM seen ORDER BY id") == [(1, me), (2, me)]
    assert spark.table("main.connect.seen").filter("id = 2").join(spark.table("base"), "id").count() == 1
    assert spark.table("seen").columns == ["id", "who"]
    assert collected(spark, "SELECT twice(id) FROM seen ORDER BY id") == [(2,), (4,)]
    assert collected(spark, "SELECT v:k::INT FROM base LIMIT 1") == [(7,)]
    files = spark.sql("SELECT * FROM read_files('/Volumes/main/connect/files/q', format => 'csv', header => true)")
    assert files.orderBy("a").select("b").collect()[1].b == "y"
    tables = spark.table("main.information_schema.tables").filter("table_schema = 'connect'")
    assert ("seen", "VIEW") in [(row.table_name, row.table_type) for row in tables.collect()]
    with pytest.raises(AnalysisException, match="below /Volumes"):
        spark.sql("SELECT * FROM text.`/etc/passwd`").collect()
    with pytest.raises(AnalysisException, match="UNRESOLVED_COLUMN"):
        spark.sql("SELECT nope FROM seen")
    collected(spark, "CREATE TEMP VIEW of_view AS SELECT id + 1 AS n FROM seen")
    assert sorted(collected(spark, "SELECT n FROM of_view")) == [(2,), (3,)]
    assert collected(spark, "DROP VIEW of_view") == []
    with pytest.raises(AnalysisException, match="TABLE_OR_VIEW_NOT_FOUND"):
        spark.sql("DROP VIEW of_view")
    collected(spark, "DROP VIEW seen")
