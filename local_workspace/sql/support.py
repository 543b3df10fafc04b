"""Which SQL statements there are, on both roads to the engine: pure data for the parity report, held by a test.

`api` is the statement execution API, `connect` is Spark Connect (`spark.sql`); each is real, partial or refused.
The examples are run in this order by the test: those that are not refused succeed, those that are refused fail by name.
"""

import itertools
from typing import Literal, NamedTuple

State = Literal["real", "partial", "refused"]


class Support(NamedTuple):
    """One kind of statement."""

    statement: str
    api: State
    connect: State
    difference: str
    example: str


REAL: State = "real"
PARTIAL: State = "partial"
REFUSED: State = "refused"
SESSION = "Each statement of the API has a session of its own, so this changes nothing for the next one."

STATEMENTS = [
    Support("CREATE CATALOG", REAL, REAL, "MANAGED LOCATION is refused.", "CREATE CATALOG IF NOT EXISTS parity"),
    Support("ALTER CATALOG", REAL, REAL, "OWNER TO, SET TAGS, UNSET TAGS.", "ALTER CATALOG parity OWNER TO someone"),
    Support("DROP CATALOG", REAL, REAL, "", "DROP CATALOG IF EXISTS parity CASCADE"),
    Support("CREATE SCHEMA", REAL, REAL, "MANAGED LOCATION is refused.", "CREATE SCHEMA IF NOT EXISTS main.parity"),
    Support("CREATE DATABASE", REAL, REAL, "", "CREATE DATABASE IF NOT EXISTS main.parity"),
    Support("ALTER SCHEMA", REAL, REAL, "", "ALTER SCHEMA main.parity SET DBPROPERTIES ('a' = 'b')"),
    Support("ALTER DATABASE", REAL, REAL, "", "ALTER DATABASE main.parity SET TAGS ('a' = 'b')"),
    Support("CREATE VOLUME", PARTIAL, PARTIAL, "EXTERNAL volumes are refused.", "CREATE VOLUME main.parity.v"),
    Support("ALTER VOLUME", REAL, REAL, "", "ALTER VOLUME main.parity.v RENAME TO main.parity.files"),
    Support("USE", PARTIAL, REAL, SESSION, "USE CATALOG main"),
    Support(
        "CREATE TABLE",
        PARTIAL,
        PARTIAL,
        "Delta tables: other formats, LOCATION, IDENTITY, GENERATED, PRIMARY KEY and FOREIGN KEY are refused.",
        "CREATE TABLE main.parity.t (id BIGINT, name STRING, v VARIANT) CLUSTER BY (id)",
    ),
    Support(
        "CREATE OR REPLACE TABLE",
        PARTIAL,
        PARTIAL,
        "The new columns and the new rows are two versions of the table.",
        "CREATE OR REPLACE TABLE main.parity.r AS SELECT 1 AS id, 'a' AS name",
    ),
    Support("CREATE TABLE LIKE", REAL, REAL, "", "CREATE TABLE main.parity.alike LIKE main.parity.r"),
    Support("CREATE TABLE CLONE", PARTIAL, PARTIAL, "No SHALLOW.", "CREATE TABLE main.parity.c CLONE main.parity.r"),
    Support(
        "INSERT",
        PARTIAL,
        PARTIAL,
        "WITH SCHEMA EVOLUTION and OVERWRITE DIRECTORY are refused.",
        "INSERT INTO main.parity.t (name, id) VALUES ('a', 1), ('b', 2)",
    ),
    Support("INSERT OVERWRITE", REAL, REAL, "", "INSERT OVERWRITE main.parity.r VALUES (2, 'b')"),
    Support("INSERT REPLACE WHERE", REAL, REAL, "", "INSERT INTO main.parity.r REPLACE WHERE id = 2 SELECT 2, 'c'"),
    Support(
        "UPDATE",
        PARTIAL,
        PARTIAL,
        "Subqueries in WHERE fail with DELTA_UNSUPPORTED_SUBQUERY; SET column = DEFAULT is refused where there is one.",
        "UPDATE main.parity.t SET name = 'c' WHERE id = 2",
    ),
    Support(
        "DELETE",
        PARTIAL,
        PARTIAL,
        "Subqueries in WHERE fail with DELTA_UNSUPPORTED_SUBQUERY: use MERGE.",
        "DELETE FROM main.parity.t WHERE id = 2",
    ),
    Support(
        "MERGE",
        PARTIAL,
        PARTIAL,
        "WITH SCHEMA EVOLUTION is refused.",
        "MERGE INTO main.parity.t t USING main.parity.r s ON t.id = s.id WHEN NOT MATCHED THEN INSERT (id, name) "
        "VALUES (s.id, s.name)",
    ),
    Support(
        "SELECT",
        PARTIAL,
        PARTIAL,
        "Sail lacks QUALIFY, PIVOT by names, FROM first and |>; one SELECT * EXCEPT (…) and one GROUP BY ALL in a "
        "statement; a column's name is the text that Sail gives it. A cancelled statement can keep a core busy for "
        "half a minute: Sail lets go between two batches.",
        "SELECT count(*) FROM main.parity.t VERSION AS OF 1",
    ),
    Support("VALUES", REAL, REAL, "", "VALUES (1, 'a')"),
    Support("TABLE", REAL, REAL, "", "TABLE main.parity.r"),
    Support("WITH", REAL, REAL, "", "WITH w AS (SELECT 1 AS a) SELECT * FROM w"),
    Support("EXPLAIN", PARTIAL, PARTIAL, "The plan is Sail's.", "EXPLAIN SELECT * FROM main.parity.r"),
    Support(
        "column:path",
        PARTIAL,
        PARTIAL,
        "Of at most four columns in a statement.",
        "SELECT v:a.b, v:c::string FROM (SELECT parse_json('{}') AS v)",
    ),
    Support(
        "information_schema",
        PARTIAL,
        PARTIAL,
        "catalogs, schemata, tables, columns, views, volumes, routines, parameters, privileges and tags.",
        "SELECT table_name FROM main.information_schema.tables WHERE table_schema = 'parity'",
    ),
    Support(
        "read_files",
        PARTIAL,
        PARTIAL,
        "CSV, JSON, Parquet, text and binary files of volumes, with the options that change what Sail reads; no "
        "_rescued_data, _metadata or STREAM.",
        "SELECT * FROM read_files('/Volumes/main/parity/files', header => true, format => 'csv')",
    ),
    Support("format.`path`", PARTIAL, PARTIAL, "In volumes.", "SELECT * FROM csv.`/Volumes/main/parity/files`"),
    Support("LIST", PARTIAL, PARTIAL, "In volumes.", "LIST '/Volumes/main/parity/files'"),
    Support(
        "COPY INTO",
        PARTIAL,
        PARTIAL,
        "From volumes; a column list, VALIDATE and credentials are refused. The history shows it as WRITE.",
        "COPY INTO main.parity.r FROM '/Volumes/main/parity/files' FILEFORMAT = CSV FORMAT_OPTIONS ('header' = 'true')",
    ),
    Support(
        "CREATE VIEW",
        PARTIAL,
        PARTIAL,
        "WITH SCHEMA and WITH METRICS are refused.",
        "CREATE VIEW main.parity.w (key COMMENT 'k') AS SELECT id FROM main.parity.t",
    ),
    Support("CREATE OR REPLACE VIEW", REAL, REAL, "", "CREATE OR REPLACE VIEW main.parity.w AS SELECT 1 AS id"),
    Support("ALTER VIEW", REAL, REAL, "", "ALTER VIEW main.parity.w AS SELECT 2 AS id"),
    Support("SHOW VIEWS", REAL, REAL, "", "SHOW VIEWS IN main.parity"),
    Support("DROP VIEW", REAL, REAL, "", "DROP VIEW main.parity.w"),
    Support(
        "CREATE FUNCTION",
        PARTIAL,
        PARTIAL,
        "SQL bodies are put into the statements that call them; Python ones run in the engine's process, without "
        "isolation, and are scalar. A column named as a parameter is not told from it.",
        "CREATE FUNCTION main.parity.f(x INT) RETURNS INT RETURN x + 1",
    ),
    Support(
        "CREATE OR REPLACE FUNCTION",
        PARTIAL,
        PARTIAL,
        "As CREATE FUNCTION.",
        "CREATE OR REPLACE FUNCTION main.parity.f(x INT) RETURN x",
    ),
    Support("SHOW FUNCTIONS", REAL, REAL, "", "SHOW FUNCTIONS IN main.parity"),
    Support("SHOW USER FUNCTIONS", REAL, REAL, "", "SHOW USER FUNCTIONS IN main.parity"),
    Support("SHOW SYSTEM FUNCTIONS", PARTIAL, PARTIAL, "Those of Sail.", "SHOW SYSTEM FUNCTIONS"),
    Support("SHOW ALL FUNCTIONS", PARTIAL, PARTIAL, "", "SHOW ALL FUNCTIONS"),
    Support("DESCRIBE FUNCTION", REAL, REAL, "", "DESCRIBE FUNCTION EXTENDED main.parity.f"),
    Support("DROP FUNCTION", REAL, REAL, "", "DROP FUNCTION main.parity.f"),
    Support(
        "ALTER TABLE",
        PARTIAL,
        PARTIAL,
        "A column's type and place cannot be changed; RENAME and DROP COLUMN need column mapping, as on Databricks, "
        "and such a table cannot be OPTIMIZEd; no PRIMARY KEY or FOREIGN KEY.",
        "ALTER TABLE main.parity.t SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name')",
    ),
    Support("COMMENT ON", REAL, REAL, "", "COMMENT ON COLUMN main.parity.t.id IS 'key'"),
    Support("GRANT", PARTIAL, PARTIAL, "Stored, not enforced.", "GRANT SELECT ON TABLE main.parity.t TO readers"),
    Support("SHOW GRANTS", PARTIAL, PARTIAL, "Without inherited ones.", "SHOW GRANTS ON TABLE main.parity.t"),
    Support("REVOKE", PARTIAL, PARTIAL, "Stored.", "REVOKE SELECT ON TABLE main.parity.t FROM readers"),
    Support("SHOW CATALOGS", REAL, REAL, "", "SHOW CATALOGS LIKE 'm*'"),
    Support("SHOW SCHEMAS", REAL, REAL, "", "SHOW SCHEMAS IN main"),
    Support("SHOW DATABASES", REAL, REAL, "", "SHOW DATABASES"),
    Support("SHOW TABLES", REAL, REAL, "", "SHOW TABLES IN main.parity"),
    Support("SHOW VOLUMES", REAL, REAL, "", "SHOW VOLUMES IN main.parity"),
    Support("SHOW COLUMNS", REAL, REAL, "", "SHOW COLUMNS IN main.parity.t"),
    Support("SHOW TBLPROPERTIES", REAL, REAL, "", "SHOW TBLPROPERTIES main.parity.t"),
    Support("SHOW PARTITIONS", PARTIAL, PARTIAL, "Without PARTITION (…).", "SHOW PARTITIONS main.parity.p"),
    Support("SHOW CREATE TABLE", REAL, REAL, "", "SHOW CREATE TABLE main.parity.t"),
    Support("DESCRIBE", REAL, REAL, "AS JSON shows the main keys.", "DESCRIBE EXTENDED main.parity.t AS JSON"),
    Support("DESCRIBE QUERY", REAL, REAL, "", "DESCRIBE QUERY SELECT 1 AS a"),
    Support("DESCRIBE HISTORY", REAL, REAL, "", "DESCRIBE HISTORY main.parity.t"),
    Support("DESCRIBE DETAIL", REAL, REAL, "", "DESCRIBE DETAIL main.parity.t"),
    Support("DESCRIBE CATALOG", REAL, REAL, "", "DESCRIBE CATALOG main"),
    Support("DESCRIBE SCHEMA", REAL, REAL, "", "DESCRIBE SCHEMA main.parity"),
    Support("DESCRIBE DATABASE", REAL, REAL, "", "DESCRIBE DATABASE main.parity"),
    Support("DESCRIBE VOLUME", REAL, REAL, "", "DESCRIBE VOLUME main.parity.files"),
    Support("OPTIMIZE", PARTIAL, PARTIAL, "Without WHERE.", "OPTIMIZE main.parity.r ZORDER BY (id)"),
    Support("VACUUM", PARTIAL, PARTIAL, "Never below seven days.", "VACUUM main.parity.r DRY RUN"),
    Support("RESTORE", REAL, REAL, "", "RESTORE TABLE main.parity.r TO VERSION AS OF 0"),
    Support("TRUNCATE TABLE", REAL, REAL, "", "TRUNCATE TABLE main.parity.r"),
    Support("DROP TABLE", PARTIAL, PARTIAL, "Its files go at once.", "DROP TABLE main.parity.r"),
    Support("DROP VOLUME", PARTIAL, PARTIAL, "Its files go at once.", "DROP VOLUME main.parity.files"),
    Support("DROP SCHEMA", PARTIAL, PARTIAL, "Files go at once.", "DROP SCHEMA IF EXISTS main.nowhere RESTRICT"),
    Support("DROP DATABASE", PARTIAL, PARTIAL, "Files go at once.", "DROP DATABASE IF EXISTS main.nowhere CASCADE"),
    Support("SET", PARTIAL, PARTIAL, f"Shows the time zone and ANSI mode; other values are refused. {SESSION}", "SET"),
    Support(
        "SET value",
        REFUSED,
        PARTIAL,
        "Over Spark Connect it is kept for the session; what Sail does not know has no effect.",
        "SET spark.sql.shuffle.partitions = 7",
    ),
    Support("ai_query", PARTIAL, PARTIAL, "Against the workspace's endpoints; no files.", ""),
    Support("vector_search", PARTIAL, PARTIAL, "Its index is a constant, its result is read at once.", ""),
    Support("other ai_ functions", REFUSED, REFUSED, "Use ai_query with an endpoint.", "SELECT ai_gen('x')"),
    Support("CREATE TEMPORARY VIEW", REFUSED, REAL, SESSION, "CREATE TEMPORARY VIEW x AS SELECT 1 AS a"),
    Support("CREATE TEMP VIEW", REFUSED, REAL, SESSION, "CREATE TEMP VIEW y AS SELECT 1 AS a"),
    Support("CREATE OR REPLACE TEMP VIEW", REFUSED, REAL, SESSION, "CREATE OR REPLACE TEMP VIEW x AS SELECT 1 AS a"),
    Support("CREATE OR REPLACE TEMPORARY VIEW", REFUSED, REAL, "", "CREATE OR REPLACE TEMPORARY VIEW z AS SELECT 1"),
    Support("MERGE WITH SCHEMA EVOLUTION", REFUSED, REFUSED, "",
            "MERGE WITH SCHEMA EVOLUTION INTO main.parity.t t USING main.parity.t s ON true WHEN MATCHED THEN DELETE"),
    Support("INSERT WITH SCHEMA EVOLUTION", REFUSED, REFUSED, "COPY INTO and saveAsTable merge schemas.",
            "INSERT WITH SCHEMA EVOLUTION INTO main.parity.t SELECT 1 AS x"),
    Support("INSERT OVERWRITE DIRECTORY", REFUSED, REFUSED, "It would write past the catalog.",
            "INSERT OVERWRITE DIRECTORY '/tmp/x' USING csv SELECT 1"),
    Support("INSERT OVERWRITE LOCAL DIRECTORY", REFUSED, REFUSED, "It would write past the catalog.",
            "INSERT OVERWRITE LOCAL DIRECTORY '/tmp/x' USING csv SELECT 1"),
]  # fmt: skip
for _example in (
    "CREATE MATERIALIZED VIEW m AS SELECT 1",
    "CREATE OR REPLACE MATERIALIZED VIEW m AS SELECT 1",
    "CREATE STREAMING TABLE s",
    "CREATE OR REPLACE STREAMING TABLE s",
    "CREATE EXTERNAL TABLE e (id INT) LOCATION 's3://b/c'",
    "CREATE CONNECTION c TYPE mysql",
    "CREATE SHARE s",
    "CREATE POLICY p ON TABLE t",
    "DROP MATERIALIZED VIEW m",
    "DROP TEMPORARY VARIABLE v",
    "DROP CONNECTION c",
    "DROP SHARE s",
    "ANALYZE TABLE main.parity.t COMPUTE STATISTICS",
    "CACHE TABLE main.parity.t",
    "CALL procedure()",
    "CLEAR CACHE",
    "CONVERT TO DELTA parquet.`/x`",
    "DECLARE x INT",
    "EXECUTE IMMEDIATE 'SELECT 1'",
    "FSCK REPAIR TABLE main.parity.t",
    "GENERATE symlink_format_manifest FOR TABLE main.parity.t",
    "LOAD DATA INPATH '/x' INTO TABLE main.parity.t",
    "MSCK REPAIR TABLE main.parity.t",
    "REFRESH TABLE main.parity.t",
    "REORG TABLE main.parity.t APPLY (PURGE)",
    "RESET",
    "SYNC SCHEMA main.parity FROM main.other",
    "UNCACHE TABLE main.parity.t",
    "UNDROP TABLE main.parity.t",
    "APPLY CHANGES INTO main.parity.t",
    "PUT 'a' INTO '/Volumes/main/parity/files/a'",
    "GET '/Volumes/main/parity/files/a' TO 'a'",
    "REMOVE '/Volumes/main/parity/files/a'",
    "ADD JAR '/x.jar'",
    "START TRANSACTION",
    "COMMIT",
    "ROLLBACK",
    "BEGIN ATOMIC SELECT 1",
):
    _words = itertools.takewhile(lambda word: word.isalpha() and word.isupper(), _example.split())
    STATEMENTS.append(Support(" ".join(_words), REFUSED, REFUSED, "", _example))
