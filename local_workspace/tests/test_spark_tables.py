"""Data frames that become tables over Spark Connect, with the genuine client."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import functions as F
from pyspark.sql.connect.session import SparkSession

from local_workspace.tests.test_sql import rows


@pytest.fixture(scope="module")
def spark(workspace) -> Iterator[SparkSession]:
    rows(workspace, "CREATE SCHEMA IF NOT EXISTS main.frames")
    session = SparkSession.builder.remote(workspace.address["spark_remote"]).create()
    session.catalog.setCurrentDatabase("frames")
    yield session
    session.stop()
    rows(workspace, "DROP SCHEMA main.frames CASCADE")


@pytest.fixture(scope="module")
def people(spark):
    return spark.createDataFrame([(1, "a", 2.5), (2, "b", None)], "id long, name string, x double")


def read(workspace, name: str) -> list[list]:
    return rows(workspace, f"SELECT * FROM main.frames.{name} ORDER BY 1")


def tables_on_disk(workspace) -> list[str]:
    return sorted(path.name.rpartition("-")[0] for path in (workspace.root / "tables" / "main" / "frames").iterdir())


def test_a_new_table_is_an_ordinary_delta_table(workspace, spark, people):
    people.write.saveAsTable("made")
    assert read(workspace, "made") == [["1", "a", "2.5"], ["2", "b", None]]
    rows(workspace, "UPDATE main.frames.made SET x = 0 WHERE id = 2")
    rows(workspace, "ALTER TABLE main.frames.made ADD COLUMNS (more STRING)")
    assert spark.table("made").orderBy("id").collect()[1].asDict() == {"id": 2, "name": "b", "x": 0.0, "more": None}
    table = workspace.client.tables.get("main.frames.made")
    assert [column.type_text for column in table.columns] == ["bigint", "string", "double", "string"]
    assert table.table_type.value == "MANAGED"


def test_save_modes(workspace, spark, people):
    people.write.saveAsTable("main.frames.modes")
    with pytest.raises(AnalysisException, match="TABLE_OR_VIEW_ALREADY_EXISTS"):
        people.write.saveAsTable("modes")
    people.write.mode("ignore").saveAsTable("modes")
    people.select("x", "name", "id").write.mode("append").saveAsTable("modes")
    assert [row[0] for row in read(workspace, "modes")] == ["1", "1", "2", "2"]
    spark.table("modes").filter("id = 1").write.mode("overwrite").saveAsTable("modes")
    assert [row[0] for row in read(workspace, "modes")] == ["1", "1"]
    replacing = people.filter("id = 2").write.mode("overwrite")
    replacing.option("replaceWhere", "id = 2").saveAsTable("modes")
    assert [row[0] for row in read(workspace, "modes")] == ["1", "1", "2"]
    with pytest.raises(PySparkException, match="validation"):
        replacing.option("replaceWhere", "id = 1").saveAsTable("modes")


def test_another_schema_needs_the_option_that_allows_it(workspace, spark, people):
    people.write.saveAsTable("shape")
    with pytest.raises(AnalysisException, match="DELTA_METADATA_MISMATCH"):
        spark.range(3).write.mode("overwrite").saveAsTable("shape")
    spark.range(2).write.mode("overwrite").option("overwriteSchema", "true").saveAsTable("shape")
    assert read(workspace, "shape") == [["0"], ["1"]]
    wider = spark.createDataFrame([(7, "new")], "id long, extra string")
    wider.write.mode("append").option("mergeSchema", "true").saveAsTable("shape")
    assert read(workspace, "shape") == [["0", None], ["1", None], ["7", "new"]]
    assert [c.name for c in workspace.client.tables.get("main.frames.shape").columns] == ["id", "extra"]


def test_partitions_clusters_and_nested_types(workspace, spark, people):
    people.write.partitionBy("name").saveAsTable("parts")
    people.write.clusterBy("id").saveAsTable("clustered")
    details = {name: rows(workspace, f"DESCRIBE DETAIL main.frames.{name}")[0] for name in ("parts", "clustered")}
    assert '["name"]' in details["parts"]
    assert '["id"]' in details["clustered"]
    query = """SELECT parse_json('{"a":1}') AS v, array(1, 2) AS a, map('k', 1) AS m,
        named_struct('x', DATE'2020-01-01') AS s, CAST(1.5 AS DECIMAL(10, 2)) AS d"""
    spark.sql(query).write.saveAsTable("nested")
    columns = "variant_get(v, '$.a', 'int'), a, m, s, d"
    assert rows(workspace, f"SELECT {columns} FROM main.frames.nested") == [
        ["1", "[1,2]", '{"k":1}', '{"x":"2020-01-01"}', "1.50"]
    ]


def test_write_to(workspace, spark, people):
    people.writeTo("main.frames.v2").using("delta").partitionedBy(F.col("name")).tableProperty("team", "data").create()
    assert ["team", "data"] in rows(workspace, "SHOW TBLPROPERTIES main.frames.v2")
    with pytest.raises(AnalysisException, match="ALREADY_EXISTS"):
        people.writeTo("v2").create()
    people.writeTo("v2").append()
    people.limit(0).writeTo("v2").overwrite(F.col("id") == 1)
    assert [row[0] for row in read(workspace, "v2")] == ["2", "2"]
    spark.range(3).writeTo("v2").tableProperty("team", "other").createOrReplace()
    assert ["team", "other"] in rows(workspace, "SHOW TBLPROPERTIES main.frames.v2")
    assert read(workspace, "v2") == [["0"], ["1"], ["2"]]
    with pytest.raises(AnalysisException, match="TABLE_OR_VIEW_NOT_FOUND"):
        people.writeTo("no_such").replace()
    people.alias("s").mergeInto("v2", F.expr("s.id = v2.id")).whenMatched().delete().merge()
    assert read(workspace, "v2") == [["0"]]


def test_what_fails_leaves_nothing(workspace, spark, people):
    before = tables_on_disk(workspace)
    failing = spark.range(3).selectExpr("id", "1 / (id - 1) AS q")
    with pytest.raises(PySparkException, match="zero"):
        failing.write.saveAsTable("half")
    with pytest.raises(AnalysisException, match="42703"):
        people.write.partitionBy("nope").saveAsTable("half")
    with pytest.raises(AnalysisException, match="format csv"):
        people.write.format("csv").saveAsTable("half")
    with pytest.raises(AnalysisException, match="SCHEMA_NOT_FOUND"):
        people.write.saveAsTable("main.no_such.half")
    assert not workspace.client.tables.exists("main.frames.half").table_exists
    assert tables_on_disk(workspace) == before


def test_temporary_views_become_tables_and_are_described_and_dropped(workspace, spark, people):
    people.createOrReplaceTempView("frame_view")
    spark.sql("CREATE TABLE from_view AS SELECT id, name FROM frame_view")
    assert read(workspace, "from_view") == [["1", "a"], ["2", "b"]]
    spark.sql("CREATE OR REPLACE TEMP VIEW sql_view AS SELECT id + 1 AS next FROM frame_view")
    assert sorted(row.next for row in spark.table("sql_view").collect()) == [2, 3]
    assert spark.sql("DESCRIBE sql_view").collect()[0].asDict() == {
        "col_name": "next",
        "data_type": "bigint",
        "comment": None,
    }


def test_writers_do_not_lose_each_others_rows(workspace, spark):
    spark.sql("CREATE TABLE shared (id BIGINT, writer BIGINT)")

    def write(writer: int) -> None:
        session = SparkSession.builder.remote(workspace.address["spark_remote"]).create()
        for i in range(4):
            session.range(i, i + 1).selectExpr("id", f"{writer} AS writer").write.insertInto("main.frames.shared")
            session.sql(f"UPDATE main.frames.shared SET id = -1 WHERE writer = {writer}")
        session.stop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert rows(workspace, "SELECT count(*), sum(id) FROM main.frames.shared") == [["16", "-16"]]


def test_rows_of_many_batches_arrive(workspace, spark):
    spark.range(300_000).selectExpr("id", "id % 7 AS k").write.saveAsTable("many")
    assert rows(workspace, "SELECT count(*), sum(k), count(DISTINCT id) FROM main.frames.many") == [
        ["300000", "899997", "300000"]
    ]
