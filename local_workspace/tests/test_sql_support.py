"""The table of statements in the parity report against what really happens, on both roads."""

import io
from collections.abc import Iterator

import pytest
from databricks.sdk.service.sql import StatementState
from pyspark.errors import PySparkException
from pyspark.sql.connect.session import SparkSession

from local_workspace.sql.lake.dispatch import COMMANDS, REFUSED, command_of
from local_workspace.sql.lake.tokens import tokens_of
from local_workspace.sql.support import STATEMENTS, Support
from local_workspace.tests.test_sql import execute, rows


def leading(row: Support) -> tuple[str, ...]:
    return tuple(token.text.upper() for token in tokens_of(row.example)[:4])


def test_every_command_and_every_refusal_has_a_row():
    shown = {leading(row) for row in STATEMENTS if row.example}
    for key in COMMANDS:
        if key and key[0] != "DESC":
            assert any(words[: len(key)] == key for words in shown), f"{key} has no row in support.STATEMENTS"


def test_refused_rows_are_those_that_are_refused():
    for row in STATEMENTS:
        words = list(leading(row)) if row.example else []
        refused = any(tuple(words[:length]) in REFUSED for length in range(1, 5))
        if refused:
            assert row.api == "refused", row
        elif row.api == "refused":
            assert row.statement in ("SET value", "other ai_ functions"), row
        elif words and command_of(words):
            assert row.api in ("real", "partial"), row


def test_no_statement_has_two_rows():
    statements = [row.statement for row in STATEMENTS]
    assert sorted(set(statements)) == sorted(statements)


def prepared(workspace, schema: str) -> None:
    rows(workspace, f"CREATE SCHEMA IF NOT EXISTS main.{schema}")
    rows(workspace, f"CREATE OR REPLACE TABLE main.{schema}.p (id INT, p STRING) PARTITIONED BY (p)")


def upload(workspace, schema: str) -> None:
    workspace.client.files.upload(f"/Volumes/main/{schema}/files/1.csv", io.BytesIO(b"id,name\n1,a\n"))


def test_each_example_does_on_the_statement_api_what_its_row_says(workspace):
    prepared(workspace, "parity")
    wrong = []
    for row in STATEMENTS:
        if row.example:
            status = execute(workspace, row.example).status
            failed = status.state is not StatementState.SUCCEEDED
            named = failed and "UNSUPPORTED_FEATURE" in status.error.message
            if failed != (row.api == "refused") or failed != named:
                wrong.append((row.statement, row.api, status.error))
        if row.statement == "ALTER VOLUME":
            upload(workspace, "parity")
    assert wrong == []


@pytest.fixture
def spark(workspace) -> Iterator[SparkSession]:
    session = SparkSession.builder.remote(workspace.address["spark_remote"]).create()
    yield session
    session.stop()


def test_each_example_does_over_spark_connect_what_its_row_says(workspace, spark):
    prepared(workspace, "parity_connect")
    wrong = []
    for row in STATEMENTS:
        sql = row.example.replace("main.parity", "main.parity_connect").replace("main/parity", "main/parity_connect")
        if sql:
            try:
                spark.sql(sql).collect()
                error = ""
            except PySparkException as failed:
                error = str(failed)
            if bool(error) != (row.connect == "refused"):
                wrong.append((row.statement, row.connect, error))
        if row.statement == "ALTER VOLUME":
            upload(workspace, "parity_connect")
    assert wrong == []
