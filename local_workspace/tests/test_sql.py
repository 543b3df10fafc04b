"""The statement API, with the genuine SDK, over the real engine."""

import concurrent.futures
import json

import psutil
import pytest
from databricks.sdk.errors import BadRequest, NotFound
from databricks.sdk.service.sql import (
    StatementParameterListItem,
    StatementState,
)

from local_workspace.tests.conftest import Running, start_workspace

# Hours of work in small batches: Sail lets go between two of them. (A cancelled cross join goes on for half a minute.)
SLOW = "SELECT sum(id % 7) FROM range(1000000000000)"


def warehouse(running: Running) -> str:
    return next(iter(running.client.warehouses.list())).id


def execute(running: Running, sql: str, parameters: dict | None = None, **options):
    items = [
        StatementParameterListItem(name, type=kind, value=value) for name, (value, kind) in (parameters or {}).items()
    ]
    defaults = {"wait_timeout": "50s", "parameters": items or None, "warehouse_id": warehouse(running)}
    return running.client.statement_execution.execute_statement(sql, **(defaults | options))


def rows(running: Running, sql: str, parameters: dict | None = None, **options) -> list[list]:
    answer = execute(running, sql, parameters, **options)
    assert answer.status.state is StatementState.SUCCEEDED, answer.status.error
    return answer.result.data_array


def failure(running: Running, sql: str, parameters: dict | None = None, **options) -> str:
    answer = execute(running, sql, parameters, **options)
    assert answer.status.state is StatementState.FAILED, answer
    return answer.status.error.message


@pytest.fixture(scope="module")
def schema(workspace) -> str:
    rows(workspace, "CREATE SCHEMA IF NOT EXISTS main.sql_tests COMMENT 'tests'")
    return "main.sql_tests"


@pytest.fixture
def people(workspace, schema) -> str:
    table = f"{schema}.people"
    rows(workspace, f"CREATE OR REPLACE TABLE {table} (id BIGINT NOT NULL, name STRING, born DATE) USING DELTA")
    rows(workspace, f"INSERT INTO {table} VALUES (1, 'Ada', DATE'1815-12-10'), (2, 'Alan', DATE'1912-06-23')")
    return table


def test_the_warehouse_is_always_running(workspace):
    [found] = workspace.client.warehouses.list()
    assert (found.name, found.state.value) == ("Local Warehouse", "RUNNING")
    assert workspace.client.warehouses.get(found.id).odbc_params.path.endswith(found.id)
    with pytest.raises(NotFound):
        workspace.client.warehouses.get("nope")
    with pytest.raises(NotFound, match="nope"):
        workspace.client.statement_execution.execute_statement("SELECT 1", "nope")


VALUES = {
    "1": ("1", "INT", "INT"),
    "CAST(1 AS BIGINT)": ("1", "LONG", "BIGINT"),
    "CAST(1 AS SMALLINT)": ("1", "SHORT", "SMALLINT"),
    "'text ☃'": ("text ☃", "STRING", "STRING"),
    "true": ("true", "BOOLEAN", "BOOLEAN"),
    "CAST(1.25 AS DECIMAL(10,2))": ("1.25", "DECIMAL", "DECIMAL(10,2)"),
    "1.5D": ("1.5", "DOUBLE", "DOUBLE"),
    "1e20D": ("1.0E20", "DOUBLE", "DOUBLE"),
    "CAST('NaN' AS DOUBLE)": ("NaN", "DOUBLE", "DOUBLE"),
    "CAST(1.1 AS FLOAT)": ("1.1", "FLOAT", "FLOAT"),
    "DATE'2024-02-29'": ("2024-02-29", "DATE", "DATE"),
    "TIMESTAMP'2024-01-01 12:30:00.5'": ("2024-01-01T12:30:00.500Z", "TIMESTAMP", "TIMESTAMP"),
    "X'00ff'": ("AP8=", "BINARY", "BINARY"),
    "array(1, 2)": ("[1,2]", "ARRAY", "ARRAY<INT>"),
    "named_struct('a', 1, 'b', 'x')": ('{"a":1,"b":"x"}', "STRUCT", "STRUCT<a: INT, b: STRING>"),
    "map('k', 1)": ('{"k":1}', "MAP", "MAP<STRING, INT>"),
    "parse_json('{\"a\": [1, null]}')": ('{"a":[1,null]}', None, "VARIANT"),  # this SDK has no name for it
    "NULL": (None, "NULL", "VOID"),
}


def test_every_type_has_its_spark_name_and_its_text(workspace):
    answer = execute(workspace, f"SELECT {', '.join(f'{sql} AS c{i}' for i, sql in enumerate(VALUES))}")
    columns = answer.manifest.schema.columns
    shown = [
        (value, column.type_name and column.type_name.value, column.type_text)
        for value, column in zip(answer.result.data_array[0], columns, strict=True)
    ]
    assert shown == list(VALUES.values())
    decimal = columns[list(VALUES).index("CAST(1.25 AS DECIMAL(10,2))")]
    assert (decimal.type_precision, decimal.type_scale) == (10, 2)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("a'b\\ \" :x ; -- /* \n☃", "STRING", "a'b\\ \" :x ; -- /* \n☃"),
        ("'; DROP TABLE main.sql_tests.people; --", None, "'; DROP TABLE main.sql_tests.people; --"),
        ("-7", "INT", "-7"),
        ("9007199254740993", "BIGINT", "9007199254740993"),
        ("1.50", "DECIMAL(5,2)", "1.50"),
        ("0.5", "DOUBLE", "0.5"),
        ("true", "BOOLEAN", "true"),
        ("2024-01-01", "DATE", "2024-01-01"),
        ("2024-01-01T10:00:00Z", "TIMESTAMP", "2024-01-01T10:00:00.000Z"),
        (None, "BIGINT", None),
        (None, None, None),
    ],
)
def test_parameters_are_bound_by_their_types(workspace, value, kind, expected):
    assert rows(workspace, "SELECT :value", {"value": (value, kind)}) == [[expected]]


def test_a_marker_in_text_or_comment_is_none(workspace):
    assert rows(workspace, "SELECT ':no', 1 /* :no */ -- :no") == [[":no", "1"]]
    assert "UNBOUND_SQL_PARAMETER" in failure(workspace, "SELECT :yes")
    assert "CAST_INVALID_INPUT" in failure(workspace, "SELECT :n", {"n": ("one", "INT")})
    assert "STRING; DROP" in failure(workspace, "SELECT :n", {"n": ("one", "STRING; DROP")})


def test_rows_are_inserted_changed_merged_and_deleted(workspace, people):
    assert rows(
        workspace,
        f"INSERT INTO {people} (name, id) VALUES (:name, :id), (NULL, 4)",
        {"name": ("Grace", None), "id": ("3", "BIGINT")},
    ) == [["2", "2"]]
    assert rows(
        workspace, f"UPDATE {people} SET name = :n WHERE id = :id", {"n": ("G.", None), "id": ("3", "INT")}
    ) == [["1"]]
    assert rows(workspace, f"DELETE FROM {people} WHERE id = 4") == [["1"]]
    merge = f"""MERGE INTO {people} t USING (SELECT :id AS id, :name AS name) s ON t.id = s.id
        WHEN MATCHED THEN UPDATE SET t.name = s.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name)"""
    assert rows(workspace, merge, {"id": ("1", "BIGINT"), "name": ("A.", None)}) == [["1", "1", "0", "0"]]
    assert rows(workspace, merge, {"id": ("9", "BIGINT"), "name": ("New", None)}) == [["1", "0", "0", "1"]]
    assert rows(workspace, f"SELECT id, name, born FROM {people} ORDER BY id") == [
        ["1", "A.", "1815-12-10"],
        ["2", "Alan", "1912-06-23"],
        ["3", "G.", None],
        ["9", "New", None],
    ]


def test_an_insert_fits_its_table_or_fails_by_name(workspace, people):
    assert "NOT_NULL_CONSTRAINT" in failure(workspace, f"INSERT INTO {people} (name) VALUES ('nobody')")
    assert "`nope`" in failure(workspace, f"INSERT INTO {people} (id, nope) VALUES (1, 2)")
    assert "ARITY_MISMATCH" in failure(workspace, f"INSERT INTO {people} VALUES (1)")
    assert rows(workspace, f"SELECT count(*) FROM {people}") == [["2"]]


def test_nested_columns_and_defaults_of_catalog_and_schema(workspace, schema):
    here = {"catalog": "main", "schema": "sql_tests"}
    rows(
        workspace,
        """CREATE TABLE nested (id BIGINT COMMENT 'key', tags ARRAY<STRUCT<k: STRING, n: INT>>,
        m MAP<STRING, STRING>, v VARIANT, price DECIMAL(10, 2)) USING DELTA CLUSTER BY (id)
        COMMENT 'nested things' TBLPROPERTIES ('team' = 'data', 'delta.appendOnly' = 'false')""",
        **here,
    )
    rows(
        workspace,
        """INSERT INTO nested (id, tags, v) VALUES (:id, array(named_struct('k', 'a', 'n', 1)), parse_json(:v)),
        (2, NULL, NULL)""",
        {"id": ("1", "BIGINT"), "v": ('{"x": "y"}', None)},
        **here,
    )
    assert rows(workspace, "SELECT * FROM nested ORDER BY id", **here) == [
        ["1", '[{"k":"a","n":1}]', None, '{"x":"y"}', None],
        ["2", None, None, None, None],
    ]
    assert rows(workspace, "SELECT variant_get(v, '$.x', 'string'), tags[0].n FROM nested WHERE id = 1", **here) == [
        ["y", "1"]
    ]
    assert rows(workspace, "DESCRIBE TABLE nested", **here)[:2] == [
        ["id", "bigint", "key"],
        ["tags", "array<struct<k:string,n:int>>", None],
    ]
    [detail] = rows(workspace, "DESCRIBE DETAIL nested", **here)
    assert {"main.sql_tests.nested", "nested things", '["id"]'} <= set(detail)
    assert ["team", "data"] in rows(workspace, "SHOW TBLPROPERTIES nested", **here)
    table = workspace.client.tables.get("main.sql_tests.nested")
    assert [column.type_text for column in table.columns][3:] == ["variant", "decimal(10,2)"]
    assert (table.table_type.value, table.comment) == ("MANAGED", "nested things")


def test_tables_are_made_replaced_and_dropped(workspace, schema):
    table = f"{schema}.made"
    rows(workspace, f"CREATE TABLE {table} AS SELECT id, concat('n', id) AS name FROM range(3)")
    assert "TABLE_OR_VIEW_ALREADY_EXISTS" in failure(workspace, f"CREATE TABLE {table} (x INT)")
    rows(workspace, f"CREATE TABLE IF NOT EXISTS {table} (x INT)")
    rows(workspace, f"CREATE OR REPLACE TABLE {table} AS SELECT id + 10 AS id, name FROM {table}")
    assert rows(workspace, f"SELECT * FROM {table} ORDER BY id") == [["10", "n0"], ["11", "n1"], ["12", "n2"]]
    location = workspace.client.tables.get(table).storage_location.removeprefix("file://")
    assert location.startswith(str(workspace.root / "tables"))
    rows(workspace, f"DROP TABLE {table}")
    assert "TABLE_OR_VIEW_NOT_FOUND" in failure(workspace, f"SELECT * FROM {table}")
    rows(workspace, f"DROP TABLE IF EXISTS {table}")


def test_a_table_is_maintained(workspace, people):
    rows(workspace, f"ALTER TABLE {people} ADD COLUMNS (email STRING COMMENT 'mail', tags ARRAY<STRING>)")
    rows(workspace, f"ALTER TABLE {people} SET TBLPROPERTIES ('a' = 'b')")
    rows(workspace, f"COMMENT ON TABLE {people} IS 'people'")
    rows(workspace, f"INSERT INTO {people} (id, email) VALUES (3, 'x@y')")
    assert rows(workspace, f"SELECT id, email FROM {people} ORDER BY id")[-1] == ["3", "x@y"]
    assert workspace.client.tables.get(people).columns[3].comment == "mail"
    [[_, metrics]] = rows(workspace, f"OPTIMIZE {people}")
    assert json.loads(metrics) == {"numFilesAdded": 1, "numFilesRemoved": 2}
    history = rows(workspace, f"DESCRIBE HISTORY {people}")
    assert history[0][2] == "OPTIMIZE"
    assert "RETENTION" in failure(workspace, f"VACUUM {people} RETAIN 0 HOURS")
    rows(workspace, f"VACUUM {people}")
    rows(workspace, f"TRUNCATE TABLE {people}")
    assert rows(workspace, f"SELECT count(*) FROM {people}") == [["0"]]
    rows(workspace, f"RESTORE TABLE {people} TO VERSION AS OF {history[0][0]}")
    assert rows(workspace, f"SELECT count(*) FROM {people}") == [["3"]]
    assert rows(workspace, f"SELECT count(*) FROM {people} VERSION AS OF 0") == [["0"]]


def test_catalogs_schemas_volumes_and_grants_by_sql(workspace):
    rows(workspace, "CREATE CATALOG IF NOT EXISTS by_sql COMMENT 'made by SQL'")
    rows(workspace, "CREATE SCHEMA IF NOT EXISTS by_sql.s")
    assert "SCHEMA_ALREADY_EXISTS" in failure(workspace, "CREATE SCHEMA by_sql.s")
    rows(workspace, "CREATE VOLUME IF NOT EXISTS by_sql.s.v COMMENT 'files'")
    rows(workspace, "CREATE TABLE by_sql.s.t (id INT)")
    rows(workspace, "INSERT INTO t VALUES (1)", catalog="by_sql", schema="s")
    assert rows(workspace, "SELECT * FROM by_sql.s.t") == [["1"]]
    assert ["by_sql"] in rows(workspace, "SHOW CATALOGS")
    assert rows(workspace, "SHOW SCHEMAS IN by_sql") == [["default"], ["s"]]
    assert rows(workspace, "SHOW TABLES IN by_sql.s LIKE 't*'") == [["s", "t", "false"]]
    assert rows(workspace, "SHOW VOLUMES IN by_sql.s") == [["s", "v"]]
    rows(workspace, "GRANT SELECT, USE SCHEMA ON SCHEMA by_sql.s TO `data team`")
    rows(workspace, "REVOKE SELECT ON SCHEMA by_sql.s FROM `data team`")
    assert rows(workspace, "SHOW GRANTS ON SCHEMA by_sql.s") == [["data team", "USE SCHEMA", "SCHEMA", "by_sql.s"]]
    assert "SCHEMA_NOT_EMPTY" in failure(workspace, "DROP SCHEMA by_sql.s")
    rows(workspace, "DROP CATALOG by_sql CASCADE")
    assert "NO_SUCH_CATALOG" in failure(workspace, "USE CATALOG by_sql")


@pytest.mark.parametrize(
    ("sql", "condition"),
    [
        ("SELECT * FROM main.default.nope", "TABLE_OR_VIEW_NOT_FOUND] The table or view `main`.`default`.`nope`"),
        ("SELECT nope FROM range(1)", "UNRESOLVED_COLUMN.WITH_SUGGESTION] A column"),
        ("SELEC 1", "PARSE_SYNTAX_ERROR"),
        ("SELECT * FROM range(3) WHERE", "PARSE_SYNTAX_ERROR"),
        ("SELECT 'open", "PARSE_SYNTAX_ERROR"),
        ("SELECT 1; SELECT 2", "PARSE_SYNTAX_ERROR"),
        (" -- nothing", "PARSE_SYNTAX_ERROR"),
        ("SELECT 1/0", "DIVIDE_BY_ZERO"),
        ("SELECT nofunction(1)", "UNRESOLVED_ROUTINE"),
        ("CREATE TABLE main.nope.t (id INT)", "SCHEMA_NOT_FOUND"),
        ("CREATE TABLE main.default.t (id INT, ID INT)", "COLUMN_ALREADY_EXISTS"),
        ("CREATE TABLE main.default.t (id INT) CLUSTER BY (nope)", "UNRESOLVED_COLUMN"),
        ("CREATE TABLE main.default.t (id INT DEFAULT 3)", "DEFAULTS_FOR_DELTA_FEATURE_NOT_ENABLED"),
        ("CREATE TABLE main.default.t (id INT) USING CSV", "UNSUPPORTED_FEATURE"),
        ("CREATE TABLE main.default.t (id INT) LOCATION '/tmp/x'", "UNSUPPORTED_FEATURE"),
        ("CREATE OR REPLACE TEMP VIEW v AS SELECT 1", "UNSUPPORTED_FEATURE"),
        ("SET x = 1", "UNSUPPORTED_FEATURE"),
        ("SELECT INTERVAL '2' MONTH", "UNSUPPORTED_FEATURE"),
    ],
)
def test_what_fails_is_named_as_on_databricks(workspace, sql, condition):
    assert condition in failure(workspace, sql)


def test_no_file_is_read_past_the_catalog(workspace):
    assert "UNSUPPORTED_FEATURE" in failure(workspace, "SELECT * FROM text.`/etc/passwd`")


def test_a_wrong_namespace_fails_the_statement(workspace):
    assert "NOT_FOUND" in failure(workspace, "SELECT 1", catalog="main", schema="no_such_schema")


def test_long_results_come_in_chunks(workspace):
    answer = execute(workspace, "SELECT id, repeat('x', 20) FROM range(25000) ORDER BY id")
    assert (answer.manifest.total_row_count, answer.manifest.total_chunk_count) == (25000, 3)
    assert (answer.result.row_count, answer.result.next_chunk_index) == (10000, 1)
    seen, chunk = list(answer.result.data_array), answer.result
    while chunk.next_chunk_index:
        chunk = workspace.client.statement_execution.get_statement_result_chunk_n(
            answer.statement_id, chunk.next_chunk_index
        )
        seen += chunk.data_array
    assert [row[0] for row in seen] == [str(i) for i in range(25000)]
    with pytest.raises(BadRequest, match="out of range"):
        workspace.client.statement_execution.get_statement_result_chunk_n(answer.statement_id, 3)


def test_results_are_cut_where_asked(workspace):
    by_rows = execute(workspace, "SELECT id FROM range(100)", row_limit=7)
    assert (by_rows.manifest.truncated, len(by_rows.result.data_array)) == (True, 7)
    by_bytes = execute(workspace, "SELECT repeat('x', 100) FROM range(100)", byte_limit=1000)
    assert by_bytes.manifest.truncated
    assert len(by_bytes.result.data_array) == 9
    assert "INLINE_BYTE_LIMIT" in failure(workspace, "SELECT repeat('x', 1000000) FROM range(30)")


def test_hostile_requests_are_refused_by_the_name_of_the_field(workspace):
    with pytest.raises(BadRequest, match="wait_timeout"):
        execute(workspace, "SELECT 1", wait_timeout="3s")
    path, body = "/api/2.0/sql/statements", {"statement": "SELECT 1", "warehouse_id": warehouse(workspace)}
    assert "no_such" in workspace.http.post(path, json=body | {"no_such": 1}).json()["message"]
    for wrong, field in [
        ({"statement": 7}, "statement"),
        ({"parameters": "x"}, "parameters"),
        ({"row_limit": 0}, "row_limit"),
    ]:
        answer = workspace.http.post(path, json=body | wrong)
        assert answer.status_code == 400
        assert field in answer.json()["message"]
    assert workspace.http.post(path, content=b"").status_code == 400
    assert workspace.http.post(path, json=[]).status_code == 400
    assert workspace.http.get(f"{path}/..%2F..%2Fidentity.json").status_code in (404, 501)


def test_writers_do_not_lose_each_others_rows(workspace, people):
    rows(workspace, f"UPDATE {people} SET born = NULL")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: rows(workspace, f"INSERT INTO {people} (id) VALUES ({i})"), range(100, 124)))
        list(
            pool.map(
                lambda i: rows(workspace, f"UPDATE {people} SET name = concat(name, 'x') WHERE id = {i % 2 + 1}"),
                range(16),
            )
        )
    assert rows(workspace, f"SELECT count(*), max(length(name)) FROM {people}") == [["26", "12"]]


def lake_process(running: Running) -> psutil.Process:
    return running.engine("local_workspace.sql.lake")


def test_acknowledged_rows_outlive_a_killed_engine_and_workspace(tmp_path):
    with start_workspace(tmp_path) as first:
        rows(first, "CREATE TABLE main.default.kept (id BIGINT)")
        spark_remote = first.address["spark_remote"]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            inserts = [pool.submit(execute, first, f"INSERT INTO main.default.kept VALUES ({i})") for i in range(24)]
            next(concurrent.futures.as_completed(inserts)).result()
            lake_process(first).kill()
            states = [insert.result().status.state for insert in inserts]
        acknowledged = {str(i) for i, state in enumerate(states) if state is StatementState.SUCCEEDED}
        assert acknowledged
        read = execute(first, "SELECT id FROM main.default.kept")
        assert acknowledged <= {row[0] for row in read.result.data_array}
        slow = execute(first, SLOW, wait_timeout="0s")
        first.process.kill()
    with start_workspace(tmp_path) as second:
        api = second.client.statement_execution
        assert second.address["spark_remote"] == spark_remote
        assert api.get_statement(read.statement_id).result.data_array == read.result.data_array
        lost = api.get_statement(slow.statement_id).status
        assert lost.state is StatementState.FAILED
        assert "restarted" in lost.error.message
        assert sorted(rows(second, "SELECT id FROM main.default.kept")) == sorted(read.result.data_array)


def test_a_statement_knows_who_asks_and_where(workspace, schema):
    columns = "current_user(), current_catalog(), current_schema(), `current_user`, t.user"
    asked = f"SELECT {columns} FROM (SELECT 1 AS `current_user`, 2 AS user) t"
    assert rows(workspace, asked, schema="sql_tests") == [
        [workspace.client.current_user.me().user_name, "main", "sql_tests", "1", "2"]
    ]
