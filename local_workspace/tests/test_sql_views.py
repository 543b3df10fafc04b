"""Views, functions and information_schema by SQL and by the genuine SDK."""

import pytest
from databricks.sdk.errors import NotFound
from databricks.sdk.service.catalog import (
    ColumnTypeName,
    CreateFunction,
    CreateFunctionParameterStyle,
    CreateFunctionRoutineBody,
    CreateFunctionSecurityType,
    CreateFunctionSqlDataAccess,
    FunctionParameterInfo,
    FunctionParameterInfos,
    TableType,
)

from local_workspace.tests.conftest import start_workspace
from local_workspace.tests.test_sql import execute, failure, rows

HERE = {"catalog": "main", "schema": "viewing"}


@pytest.fixture(scope="module")
def base(workspace) -> str:
    rows(workspace, "CREATE SCHEMA IF NOT EXISTS main.viewing")
    rows(workspace, "CREATE OR REPLACE TABLE base (id BIGINT, name STRING COMMENT 'who', n INT)", **HERE)
    rows(workspace, "INSERT INTO base VALUES (1, 'a', 10), (2, 'b', 20)", **HERE)
    return "main.viewing.base"


def test_a_view_is_read_where_its_names_mean_something_else(workspace, base):
    rows(
        workspace,
        "CREATE VIEW doubled (id COMMENT 'key', twice) COMMENT 'v' AS SELECT id, n * 2 FROM base -- n",
        **HERE,
    )
    # From another schema, with an expression of WITH that has the name of the view's own table.
    mixed = "WITH base AS (SELECT 2 AS id) SELECT v.twice, b.id FROM main.viewing.doubled v JOIN base b ON v.id = b.id"
    assert rows(workspace, mixed, catalog="main", schema="default") == [["40", "2"]]
    assert rows(workspace, "SELECT doubled.twice FROM doubled WHERE twice > 20", **HERE) == [["40"]]
    assert rows(workspace, "SELECT (SELECT max(twice) FROM doubled), 'doubled'", **HERE) == [["40", "doubled"]]
    rows(workspace, "CREATE TABLE from_view AS SELECT * FROM doubled", **HERE)
    rows(workspace, "INSERT INTO from_view SELECT id + 2, twice FROM doubled", **HERE)
    merge = "MERGE INTO from_view t USING doubled v ON t.id = v.id WHEN MATCHED THEN DELETE"
    assert rows(workspace, merge, **HERE)[0][2] == "2"
    assert rows(workspace, "SELECT * FROM from_view ORDER BY id", **HERE) == [["3", "20"], ["4", "40"]]
    in_query = "DELETE FROM from_view WHERE id IN (SELECT id FROM doubled)"
    assert "DELTA_UNSUPPORTED_SUBQUERY" in failure(workspace, in_query, **HERE)


def test_a_view_holds_what_a_query_can_say(workspace, base):
    for name, query in {
        "paths": """SELECT v:a.b::int AS b, v:a FROM (SELECT parse_json('{"a": {"b": 3}}') AS v)""",
        "shorthand": "SELECT * EXCEPT (name, n) FROM base",
        "catalogued": "SELECT table_name FROM information_schema.tables WHERE table_name = 'base'",
        "united": "SELECT id FROM base UNION ALL (SELECT b FROM paths) ORDER BY 1 -- last",
    }.items():
        rows(workspace, f"CREATE OR REPLACE VIEW {name} AS {query}", **HERE)
    assert rows(workspace, "SELECT b FROM paths", **HERE) == [["3"]]
    assert rows(workspace, "SELECT * FROM shorthand ORDER BY id", **HERE) == [["1"], ["2"]]
    assert rows(workspace, "SELECT * FROM main.viewing.catalogued") == [["base"]]
    assert rows(workspace, "SELECT sum(id) FROM `main`.viewing.`united` AS `a b`") == [["6"]]
    assert "Projection" in rows(workspace, "EXPLAIN SELECT * FROM shorthand", **HERE)[0][0]


def test_a_view_is_shown_by_the_sdk_and_by_sql(workspace, base):
    query = "SELECT name, count(*) AS n FROM base GROUP BY name"
    rows(workspace, f"CREATE OR REPLACE VIEW counted TBLPROPERTIES ('a' = 'b') AS {query}", **HERE)
    shown = workspace.client.tables.get("main.viewing.counted")
    assert (shown.table_type, shown.view_definition, shown.properties) == (TableType.VIEW, query, {"a": "b"})
    assert [(c.name, c.type_text) for c in shown.columns] == [("name", "string"), ("n", "bigint")]
    assert not shown.storage_location
    assert ["viewing", "counted", "false", "false"] in rows(workspace, "SHOW VIEWS LIKE 'count*'", **HERE)
    assert ["name", "string", None] in rows(workspace, "DESCRIBE counted", **HERE)
    assert ["View Text", query, ""] in rows(workspace, "DESCRIBE EXTENDED counted", **HERE)
    [[made]] = rows(workspace, "SHOW CREATE TABLE counted", **HERE)
    rows(workspace, "DROP VIEW counted", **HERE)
    rows(workspace, made, **HERE)
    assert rows(workspace, "SELECT * FROM counted ORDER BY name", **HERE) == [["a", "1"], ["b", "1"]]
    workspace.client.tables.delete("main.viewing.counted")
    assert "TABLE_OR_VIEW_NOT_FOUND" in failure(workspace, "SELECT * FROM counted", **HERE)


def test_views_over_views_keep_their_columns_and_never_contain_themselves(workspace, base):
    rows(workspace, "CREATE OR REPLACE TABLE wide AS SELECT 1 AS a", **HERE)
    rows(workspace, "CREATE OR REPLACE VIEW inner_view AS SELECT * FROM wide", **HERE)
    rows(workspace, "CREATE OR REPLACE VIEW outer_view AS SELECT a, current_user() AS who FROM inner_view", **HERE)
    rows(workspace, "ALTER TABLE wide ADD COLUMN b INT", **HERE)
    assert execute(workspace, "SELECT * FROM inner_view", **HERE).manifest.schema.column_count == 1
    assert rows(workspace, "SELECT * FROM outer_view", **HERE) == [["1", workspace.client.current_user.me().user_name]]
    assert "RECURSIVE_VIEW" in failure(
        workspace, "CREATE OR REPLACE VIEW inner_view AS SELECT * FROM outer_view", **HERE
    )
    assert "RECURSIVE_VIEW" in failure(workspace, "ALTER VIEW inner_view AS SELECT a FROM outer_view", **HERE)
    rows(workspace, "ALTER VIEW inner_view AS SELECT a + 1 AS a FROM wide", **HERE)
    assert rows(workspace, "SELECT a FROM outer_view", **HERE) == [["2"]]
    rows(workspace, "ALTER VIEW outer_view RENAME TO renamed_view", **HERE)
    assert rows(workspace, "SELECT a FROM renamed_view", **HERE) == [["2"]]


@pytest.mark.parametrize(
    ("sql", "condition"),
    [
        ("CREATE VIEW base AS SELECT 1 AS x", "TABLE_OR_VIEW_ALREADY_EXISTS"),
        ("CREATE OR REPLACE VIEW base AS SELECT 1 AS x", "EXPECT_VIEW_NOT_TABLE"),
        ("CREATE VIEW bad (a, b) AS SELECT 1", "CREATE_VIEW_COLUMN_ARITY_MISMATCH.NOT_ENOUGH_DATA_COLUMNS"),
        ("CREATE VIEW bad AS SELECT 1 AS a, 2 AS A", "COLUMN_ALREADY_EXISTS"),
        ("CREATE VIEW bad AS SELECT * FROM nowhere", "TABLE_OR_VIEW_NOT_FOUND"),
        ("CREATE VIEW bad AS DELETE FROM base", "PARSE_SYNTAX_ERROR"),
        ("CREATE TEMP VIEW bad AS SELECT 1", "CREATE TEMP: temporary views"),
        ("CREATE MATERIALIZED VIEW bad AS SELECT 1", "UNSUPPORTED_FEATURE"),
        ("DROP VIEW base", "EXPECT_VIEW_NOT_TABLE"),
        ("INSERT INTO fixed VALUES (1)", "EXPECT_TABLE_NOT_VIEW"),
        ("UPDATE fixed SET a = 2", "EXPECT_TABLE_NOT_VIEW"),
        ("ALTER TABLE fixed ADD COLUMN x INT", "EXPECT_TABLE_NOT_VIEW"),
        ("OPTIMIZE fixed", "EXPECT_TABLE_NOT_VIEW"),
        ("SELECT * FROM fixed VERSION AS OF 0", "UNSUPPORTED_FEATURE"),
    ],
)
def test_what_a_view_cannot_be_or_do_has_its_class(workspace, base, sql, condition):
    rows(workspace, "CREATE OR REPLACE VIEW fixed AS SELECT 1 AS a", **HERE)
    assert condition in failure(workspace, sql, **HERE)


def test_sql_functions_are_inlined(workspace, base):
    rows(workspace, "CREATE OR REPLACE FUNCTION add_to(x INT, by INT DEFAULT 1) COMMENT 'sums' RETURN x + by", **HERE)
    answer = execute(
        workspace, "SELECT add_to(1), main.viewing.add_to(add_to(n), 5), add_to(by => 3, x => n) FROM base", **HERE
    )
    assert sorted(answer.result.data_array) == [["2", "16", "13"], ["2", "26", "23"]]
    assert answer.manifest.schema.columns[0].name == "main.viewing.add_to(1)"
    assert [c.type_text for c in answer.manifest.schema.columns] == ["INT"] * 3
    rows(
        workspace,
        "CREATE OR REPLACE FUNCTION above(least INT) RETURNS TABLE (id BIGINT, n INT) RETURN "
        "SELECT id, n FROM base WHERE n > least",
        **HERE,
    )
    assert rows(workspace, "SELECT t.* FROM above(add_to(9)) AS t", **HERE) == [["2", "20"]]
    rows(workspace, "CREATE OR REPLACE VIEW summed AS SELECT id, add_to(n, 100) AS s FROM base", **HERE)
    assert rows(workspace, "SELECT sum(s) FROM main.viewing.summed") == [["230"]]
    assert "WRONG_NUM_ARGS" in failure(workspace, "SELECT add_to(1, 2, 3)", **HERE)
    assert "REQUIRED_PARAMETER_NOT_FOUND" in failure(workspace, "SELECT add_to()", **HERE)
    assert "ROUTINE_ALREADY_EXISTS" in failure(workspace, "CREATE FUNCTION add_to(x INT) RETURN x", **HERE)
    assert ["main.viewing.add_to"] in rows(workspace, "SHOW USER FUNCTIONS LIKE 'add*'", **HERE)
    assert ["Returns:  INT"] in rows(workspace, "DESCRIBE FUNCTION add_to", **HERE)


def test_python_functions_run_on_the_engine(workspace, base):
    rows(
        workspace,
        """CREATE OR REPLACE FUNCTION main.viewing.shout(s STRING, times INT) RETURNS STRING LANGUAGE PYTHON AS $$
        import re  # ':s' and ; are Python's
        def loud(text):
            return re.sub("a", "A", text)
        return loud(s) * times
        $$""",
    )
    assert rows(workspace, "SELECT shout(name, 2) FROM base ORDER BY id", **HERE) == [["AA"], ["bb"]]
    assert "UDF_USER_CODE_ERROR" in failure(
        workspace, "CREATE FUNCTION main.viewing.bad() RETURNS INT LANGUAGE PYTHON AS $$ return ( $$"
    )
    assert "SCALA" in failure(workspace, "CREATE FUNCTION main.viewing.bad() RETURNS INT LANGUAGE SCALA AS $$1$$")


def test_a_function_made_by_the_sdk_is_called_by_sql(workspace, base):
    functions = workspace.client.functions
    parameters = FunctionParameterInfos([FunctionParameterInfo("x", "int", ColumnTypeName.INT, 0)])
    info = CreateFunction(
        name="squared",
        catalog_name="main",
        schema_name="viewing",
        input_params=parameters,
        data_type=ColumnTypeName.INT,
        full_data_type="INT",
        routine_body=CreateFunctionRoutineBody.SQL,
        routine_definition="x * x",
        parameter_style=CreateFunctionParameterStyle.S,
        is_deterministic=True,
        sql_data_access=CreateFunctionSqlDataAccess.CONTAINS_SQL,
        is_null_call=True,
        security_type=CreateFunctionSecurityType.DEFINER,
        specific_name="squared",
    )
    made = functions.create(info)
    assert (made.full_name, made.routine_definition) == ("main.viewing.squared", "x * x")
    assert rows(workspace, "SELECT squared(7)", **HERE) == [["49"]]
    assert "squared" in [f.name for f in functions.list("main", "viewing", max_results=1)]
    assert functions.get("main.viewing.squared").input_params.parameters[0].name == "x"
    functions.update("main.viewing.squared", owner="someone")
    functions.delete("main.viewing.squared")
    with pytest.raises(NotFound):
        functions.get("main.viewing.squared")
    assert "UNRESOLVED_ROUTINE" in failure(workspace, "SELECT squared(7)", **HERE)


def test_information_schema_is_queried_like_tables(workspace, base):
    rows(workspace, "CREATE VOLUME IF NOT EXISTS main.viewing.files")
    rows(workspace, "CREATE OR REPLACE VIEW seen AS SELECT id FROM base", **HERE)
    rows(workspace, "GRANT SELECT ON TABLE main.viewing.base TO readers")
    rows(workspace, "GRANT USE SCHEMA ON SCHEMA main.viewing TO readers")
    rows(workspace, "ALTER TABLE base SET TAGS ('pii' = 'no')", **HERE)
    columns = """SELECT c.column_name, c.full_data_type, c.comment, t.table_type
        FROM information_schema.columns c JOIN information_schema.tables t
        ON c.table_schema = t.table_schema AND c.table_name = t.table_name
        WHERE c.table_schema = :schema AND c.table_name = 'base' ORDER BY c.ordinal_position"""
    assert rows(workspace, columns, {"schema": ("viewing", None)}) == [
        ["id", "BIGINT", None, "MANAGED"],
        ["name", "STRING", "who", "MANAGED"],
        ["n", "INT", None, "MANAGED"],
    ]
    of = "system.information_schema"
    for query, found in {
        f"SELECT catalog_name FROM {of}.catalogs WHERE catalog_name = 'main'": ["main"],
        f"SELECT schema_name FROM {of}.schemata WHERE schema_name = 'viewing'": ["viewing"],
        f"SELECT view_definition FROM {of}.views WHERE table_name = 'seen'": ["SELECT id FROM base"],
        f"SELECT volume_name FROM {of}.volumes WHERE volume_schema = 'viewing'": ["files"],
        f"SELECT grantee FROM {of}.table_privileges WHERE table_name = 'base'": ["readers"],
        f"SELECT privilege_type FROM {of}.schema_privileges WHERE schema_name = 'viewing'": ["USE SCHEMA"],
        f"SELECT tag_value FROM {of}.table_tags WHERE schema_name = 'viewing'": ["no"],
    }.items():
        assert rows(workspace, query) == [found]
    rows(workspace, "CREATE OR REPLACE FUNCTION listed(a INT) RETURN a", **HERE)
    parameters = """SELECT r.routine_definition, p.parameter_name FROM main.information_schema.routines r
        JOIN main.information_schema.parameters p ON p.specific_name = r.specific_name
        WHERE r.routine_name = 'listed'"""
    assert rows(workspace, parameters) == [["a", "a"]]
    assert rows(workspace, "SELECT * FROM information_schema.catalog_privileges") == []
    assert "TABLE_OR_VIEW_NOT_FOUND" in failure(workspace, "SELECT * FROM information_schema.nothing")
    assert "NO_SUCH_CATALOG" in failure(workspace, "SELECT * FROM nowhere.information_schema.tables")


def test_views_and_functions_outlive_the_workspace(tmp_path):
    with start_workspace(tmp_path) as first:
        rows(first, "CREATE TABLE t AS SELECT 3 AS a")
        rows(first, "CREATE FUNCTION inc(x INT) RETURN x + 1")
        rows(first, "CREATE VIEW v AS SELECT inc(a) AS b FROM t")
        first.process.kill()
    with start_workspace(tmp_path) as second:
        assert rows(second, "SELECT b, inc(b) FROM v") == [["4", "5"]]
