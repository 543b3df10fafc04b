"""What changes tables and what is said about them: ALTER, COMMENT ON, tags, defaults, constraints, SHOW."""

import json

import pytest

from local_workspace.tests.test_sql import execute, failure, rows

HERE = {"catalog": "main", "schema": "altering"}


@pytest.fixture
def table(workspace) -> str:
    rows(workspace, "CREATE SCHEMA IF NOT EXISTS main.altering")
    rows(workspace, "CREATE OR REPLACE TABLE t (id BIGINT, name STRING, s STRUCT<x: INT>)", **HERE)
    rows(workspace, "INSERT INTO t VALUES (1, 'a', named_struct('x', 1)), (2, 'b', NULL)", **HERE)
    return "main.altering.t"


def test_columns_are_renamed_and_dropped_with_column_mapping(workspace, table):
    assert "DELTA_UNSUPPORTED_RENAME_COLUMN" in failure(workspace, "ALTER TABLE t RENAME COLUMN id TO key", **HERE)
    assert "DELTA_UNSUPPORTED_DROP_COLUMN" in failure(workspace, "ALTER TABLE t DROP COLUMN name", **HERE)
    rows(workspace, "ALTER TABLE t SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name')", **HERE)
    rows(workspace, "ALTER TABLE t RENAME COLUMN id TO key", **HERE)
    rows(workspace, "INSERT INTO t (key, name) VALUES (3, 'c')", **HERE)
    rows(workspace, "ALTER TABLE t ADD COLUMN id INT COMMENT 'another'", **HERE)
    rows(workspace, "ALTER TABLE t DROP COLUMNS (name, s)", **HERE)
    rows(workspace, "UPDATE t SET id = 10 WHERE key = 1", **HERE)
    rows(workspace, "MERGE INTO t USING (SELECT 2 AS key) s ON t.key = s.key WHEN MATCHED THEN DELETE", **HERE)
    assert rows(workspace, "SELECT * FROM t ORDER BY key", **HERE) == [["1", "10"], ["3", None]]
    assert rows(workspace, "SELECT id, name FROM t VERSION AS OF 1 ORDER BY id", **HERE) == [["1", "a"], ["2", "b"]]
    assert [column.name for column in workspace.client.tables.get(table).columns] == ["key", "id"]
    assert "Column mapping" in failure(workspace, "OPTIMIZE t", **HERE)
    assert "FIELD_ALREADY_EXISTS" in failure(workspace, "ALTER TABLE t RENAME COLUMN key TO ID", **HERE)


def test_what_rows_must_hold_is_checked(workspace, table):
    assert "DELTA_NEW_CHECK_CONSTRAINT_VIOLATION" in failure(
        workspace, "ALTER TABLE t ADD CONSTRAINT big CHECK (id > 1)", **HERE
    )
    rows(workspace, "ALTER TABLE t ADD CONSTRAINT positive CHECK (id > 0)", **HERE)
    assert "DELTA_CONSTRAINT_ALREADY_EXISTS" in failure(
        workspace, "ALTER TABLE t ADD CONSTRAINT positive CHECK (id > 5)", **HERE
    )
    assert "DELTA_VIOLATE_CONSTRAINT" in failure(workspace, "INSERT INTO t (id) VALUES (-1)", **HERE)
    rows(workspace, "ALTER TABLE t DROP CONSTRAINT positive", **HERE)
    rows(workspace, "ALTER TABLE t DROP CONSTRAINT IF EXISTS positive", **HERE)
    assert "DELTA_CONSTRAINT_DOES_NOT_EXIST" in failure(workspace, "ALTER TABLE t DROP CONSTRAINT positive", **HERE)
    rows(workspace, "INSERT INTO t (id) VALUES (-1)", **HERE)
    assert "DELTA_NEW_NOT_NULL_VIOLATION" in failure(workspace, "ALTER TABLE t ALTER COLUMN name SET NOT NULL", **HERE)
    rows(workspace, "ALTER TABLE t ALTER COLUMN id SET NOT NULL", **HERE)
    assert "NOT_NULL_CONSTRAINT" in failure(workspace, "INSERT INTO t (name) VALUES ('x')", **HERE)
    rows(workspace, "ALTER TABLE t ALTER COLUMN id DROP NOT NULL", **HERE)
    rows(workspace, "INSERT INTO t (name) VALUES ('x')", **HERE)
    rows(workspace, "CREATE OR REPLACE TABLE checked (id INT, CONSTRAINT few CHECK (id < 5))", **HERE)
    assert "DELTA_VIOLATE_CONSTRAINT" in failure(workspace, "INSERT INTO checked VALUES (5)", **HERE)


def test_defaults_are_put_in(workspace, table):
    defaulted = "CREATE OR REPLACE TABLE d (id INT, n INT DEFAULT 1 + 1, at DATE DEFAULT current_date())"
    assert "WRONG_COLUMN_DEFAULTS_FOR_DELTA_FEATURE_NOT_ENABLED" in failure(workspace, defaulted, **HERE)
    rows(workspace, f"{defaulted} TBLPROPERTIES ('delta.feature.allowColumnDefaults' = 'supported')", **HERE)
    rows(workspace, "INSERT INTO d (id) VALUES (1)", **HERE)
    rows(workspace, "INSERT INTO d VALUES (2, DEFAULT, NULL), (3, 5, DEFAULT)", **HERE)
    rows(workspace, "INSERT INTO d (id) SELECT 4", **HERE)
    found = rows(workspace, "SELECT id, n, at = current_date() FROM d ORDER BY id", **HERE)
    assert found == [["1", "2", "true"], ["2", "2", None], ["3", "5", "true"], ["4", "2", "true"]]
    assert "DEFAULT in UPDATE" in failure(workspace, "UPDATE d SET n = DEFAULT", **HERE)
    rows(workspace, "ALTER TABLE d ALTER COLUMN n SET DEFAULT 9", **HERE)
    rows(workspace, "ALTER TABLE d ALTER COLUMN at DROP DEFAULT", **HERE)
    rows(workspace, "INSERT INTO d (id) VALUES (5)", **HERE)
    assert rows(workspace, "SELECT n, at FROM d WHERE id = 5", **HERE) == [["9", None]]
    assert "_ADD_COLUMN_NOT_SUPPORTED" in failure(workspace, "ALTER TABLE d ADD COLUMN x INT DEFAULT 3", **HERE)


def test_names_owners_comments_and_tags(workspace, table):
    rows(workspace, "ALTER TABLE t RENAME TO main.altering.renamed", **HERE)
    assert rows(workspace, "SELECT count(*) FROM renamed", **HERE) == [["2"]]
    assert "TABLE_OR_VIEW_NOT_FOUND" in failure(workspace, "SELECT * FROM t", **HERE)
    rows(workspace, "ALTER TABLE renamed OWNER TO `data team`", **HERE)
    rows(workspace, "ALTER TABLE renamed SET TAGS ('pii' = 'yes', 'team' = 'x')", **HERE)
    rows(workspace, "ALTER TABLE renamed UNSET TAGS ('team')", **HERE)
    rows(workspace, "COMMENT ON COLUMN renamed.name IS 'who'", **HERE)
    rows(workspace, "ALTER TABLE renamed ALTER COLUMN id COMMENT 'key'", **HERE)
    rows(workspace, "ALTER TABLE renamed SET TBLPROPERTIES ('a' = 'b', 'c' = 'd')", **HERE)
    rows(workspace, "ALTER TABLE renamed UNSET TBLPROPERTIES ('c')", **HERE)
    shown = workspace.client.tables.get("main.altering.renamed")
    assert (shown.owner, shown.properties) == ("data team", {"a": "b"})
    assert [column.comment for column in shown.columns] == ["key", "who", None]
    tags = "SELECT tag_name, tag_value FROM information_schema.table_tags WHERE table_name = 'renamed'"
    assert rows(workspace, tags) == [["pii", "yes"]]
    assert rows(workspace, "SHOW TBLPROPERTIES renamed ('a')", **HERE) == [["a", "b"]]
    rows(workspace, "DROP TABLE renamed", **HERE)


def test_schemas_catalogs_and_volumes_are_altered(workspace, table):
    rows(workspace, "CREATE VOLUME IF NOT EXISTS main.altering.old")
    rows(workspace, "ALTER VOLUME main.altering.old RENAME TO main.altering.new")
    rows(workspace, "COMMENT ON VOLUME main.altering.new IS 'files'")
    rows(workspace, "ALTER VOLUME main.altering.new OWNER TO someone")
    volume = workspace.client.volumes.read("main.altering.new")
    assert (volume.comment, volume.owner) == ("files", "someone")
    assert (workspace.root / "volumes" / "main" / "altering" / "new").is_dir()
    rows(workspace, "ALTER SCHEMA main.altering SET DBPROPERTIES ('a' = 'b')")
    rows(workspace, "ALTER SCHEMA main.altering SET TAGS ('k' = 'v')")
    rows(workspace, "COMMENT ON SCHEMA main.altering IS 'tests'")
    schema = workspace.client.schemas.get("main.altering")
    assert (schema.properties, schema.comment) == ({"a": "b"}, "tests")
    rows(workspace, "CREATE CATALOG IF NOT EXISTS altered")
    rows(workspace, "ALTER CATALOG altered OWNER TO someone")
    assert workspace.client.catalogs.get("altered").owner == "someone"
    rows(workspace, "DROP CATALOG altered CASCADE")


def test_a_table_is_made_like_another_or_cloned(workspace, table):
    rows(workspace, "CREATE OR REPLACE TABLE source (id INT, p STRING) PARTITIONED BY (p) COMMENT 'c'", **HERE)
    rows(workspace, "INSERT INTO source VALUES (1, 'x'), (2, 'y'), (3, NULL)", **HERE)
    rows(workspace, "CREATE OR REPLACE TABLE alike LIKE source", **HERE)
    assert rows(workspace, "SELECT count(*) FROM alike", **HERE) == [["0"]]
    rows(workspace, "CREATE OR REPLACE TABLE clone DEEP CLONE source", **HERE)
    rows(workspace, "DELETE FROM source", **HERE)
    assert rows(workspace, "SELECT * FROM clone ORDER BY id", **HERE) == [["1", "x"], ["2", "y"], ["3", None]]
    assert rows(workspace, "SHOW PARTITIONS clone", **HERE) == [["x"], ["y"], [None]]
    assert "SHALLOW CLONE" in failure(workspace, "CREATE TABLE c SHALLOW CLONE source", **HERE)
    [[made]] = rows(workspace, "SHOW CREATE TABLE clone", **HERE)
    rows(workspace, "DROP TABLE clone", **HERE)
    rows(workspace, made, **HERE)
    assert rows(workspace, "SHOW CREATE TABLE clone", **HERE) == [[made]]


def test_statements_in_the_words_of_databricks(workspace, table):
    rows(workspace, "WITH w AS (SELECT 7 AS id) INSERT INTO t (id) SELECT id FROM w", **HERE)
    assert rows(workspace, "INSERT INTO t REPLACE WHERE id = 7 SELECT 7, 'seven', NULL", **HERE)[0] == ["1", "1"]
    assert rows(workspace, "SELECT name FROM t WHERE id = 7", **HERE) == [["seven"]]
    assert rows(workspace, "DESCRIBE QUERY SELECT id, name AS n FROM t", **HERE) == [
        ["id", "bigint", None],
        ["n", "string", None],
    ]
    [[text]] = rows(workspace, "DESCRIBE EXTENDED t AS JSON", **HERE)
    assert json.loads(text)["columns"][0] == {"name": "id", "type": {"name": "bigint"}, "nullable": True}
    assert ["timezone", "UTC"] in rows(workspace, "SET")
    assert rows(workspace, "SET TIME ZONE 'UTC'") == [["timezone", "UTC"]]
    assert "Projection" in rows(workspace, "EXPLAIN SELECT id FROM t", **HERE)[0][0]


def test_shorthand_is_written_out(workspace, table):
    assert rows(workspace, "SELECT * EXCEPT (s) FROM t ORDER BY id", **HERE) == [["1", "a"], ["2", "b"]]
    joined = "WITH w AS (SELECT 1 AS id, 2 AS n) SELECT t.* EXCEPT (S, name), w.n FROM t JOIN w ON t.id = w.id"
    assert rows(workspace, joined, **HERE) == [["1", "2"]]
    grouped = "SELECT id % 1 AS k, count(*), max(id) + 1 FROM t GROUP BY ALL"
    assert rows(workspace, grouped, **HERE) == [["0", "2", "3"]]
    assert rows(workspace, "SELECT count(*) FROM t GROUP BY ALL", **HERE) == [["2"]]
    assert "EXCEPT_RESOLVED_COLUMNS_WITHOUT_MATCH" in failure(workspace, "SELECT * EXCEPT (zz) FROM t", **HERE)
    assert rows(workspace, "SELECT 1 AS a EXCEPT (SELECT 1)") == []


def test_paths_into_variants_and_strings(workspace, table):
    source = """(SELECT parse_json('{"a": {"b": [1, 2]}, "c": "x"}') AS v, '{"k":{"m":5}}' AS s)"""
    answer = execute(workspace, f"SELECT v:a.b[1], t.v:c::string, v:a.b[0]::int + 1, s:k.m, s:k FROM {source} t")
    assert answer.result.data_array == [["2", "x", "2", "5", '{"m":5}']]
    assert [c.name for c in answer.manifest.schema.columns][:2] == ["b", "c"]
    assert rows(workspace, f"SELECT count(*) FROM {source} WHERE v:c::string = 'y' OR s:k.m::int = 5") == [["1"]]
    assert rows(workspace, """SELECT parse_json('{"a": 1}'):a::int AS n""") == [["1"]]


@pytest.mark.parametrize(
    ("sql", "condition"),
    [
        ("SELECT * FROM t VERSION AS OF 99", "DELTA_VERSION_NOT_FOUND"),
        ("SELECT * FROM t TIMESTAMP AS OF '2001-01-01'", "DELTA_TIMESTAMP_EARLIER_THAN_COMMIT_RETENTION"),
        ("SELECT ?", "UNBOUND_SQL_PARAMETER"),
        ("ALTER TABLE t ALTER COLUMN id TYPE INT", "DELTA_UNSUPPORTED_ALTER_TABLE_CHANGE_COL_OP"),
        ("ALTER TABLE t ADD CONSTRAINT k PRIMARY KEY (id)", "UNSUPPORTED_FEATURE"),
        ("CREATE TABLE g (id BIGINT GENERATED ALWAYS AS IDENTITY)", "UNSUPPORTED_FEATURE"),
        ("SHOW PARTITIONS t", "DELTA_SHOW_PARTITION_IN_NON_PARTITIONED_TABLE"),
        ("MERGE WITH SCHEMA EVOLUTION INTO t USING t ON true WHEN MATCHED THEN DELETE", "MERGE WITH SCHEMA EVOLUTION"),
        ("EXECUTE IMMEDIATE 'SELECT 1'", "EXECUTE"),
        ("UNDROP TABLE t", "UNDROP"),
        ("SET spark.sql.shuffle.partitions = 7", "UNSUPPORTED_FEATURE"),
        ("SELECT ai_gen('x')", "ai_gen"),
        ("SELECT ai_query('nowhere', 'x')", "RESOURCE_DOES_NOT_EXIST"),
        ("SELECT ai_query('chat', 'x', files => 'y')", "the argument files"),
    ],
)
def test_what_is_not_here_is_refused_by_its_class(workspace, table, sql, condition):
    assert condition in failure(workspace, sql, **HERE)


def test_a_table_in_the_schema_named_default_is_changed_and_deleted_from(workspace):
    rows(workspace, "CREATE TABLE main.default.plain (id INT, n INT)")
    rows(workspace, "INSERT INTO main.default.plain VALUES (1, 1), (2, 2)")
    rows(workspace, "UPDATE main.default.plain SET n = 5 WHERE id = 1")
    rows(workspace, "DELETE FROM main.default.plain WHERE id = 2")
    assert rows(workspace, "SELECT * FROM main.default.plain") == [["1", "5"]]
    rows(workspace, "DROP TABLE main.default.plain")
