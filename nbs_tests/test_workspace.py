"""The workspace edge: types, errors, deadlines and unreachable hosts, through the genuine SDK."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from databricks.sdk import errors

from lib import core
from lib.settings import Settings, load_settings
from lib.workspace import Workspace, translate


@pytest.fixture(scope="module")
def settings(environment: dict[str, str]) -> Settings:
    """The names of the local target."""
    return load_settings(environment)


@pytest.fixture(scope="module")
def ground(settings: Settings) -> Workspace:
    """One workspace object."""
    return Workspace(settings)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -(2**63),
        2**63 - 1,
        0.1,
        -0.0,
        1e308,
        float("inf"),
        Decimal("0.00"),
        Decimal("-12345678901234567890.123456789012345678"),
        Decimal("1E+3"),
        Decimal("1E-6"),
        "",
        "O'Brien; DROP TABLE x; -- :a",
        'line\nbreak\t\\ "quoted" `tick` 日本 🎉 é',
        ":name ? ${x} {{y}}",
        date(1, 1, 1),
        date(9999, 12, 31),
        datetime(2026, 2, 28, 23, 59, 59, 999000, tzinfo=UTC),  # the API answers milliseconds
        datetime(1969, 12, 31, tzinfo=UTC),
        datetime(2026, 3, 29, 2, 30),  # naive: stays without a zone
    ],
    ids=repr,
)
def test_a_value_comes_back_as_it_went(ground: Workspace, value: Any):
    (row,) = ground.sql("SELECT :value AS value", value=value)
    assert row["value"] == value
    assert type(row["value"]) is type(value)


def test_a_moment_keeps_its_instant_whatever_its_zone(ground: Workspace):
    moment = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    (row,) = ground.sql("SELECT :at AS at", at=moment)
    assert row["at"] == moment
    assert row["at"].utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "value",
    [
        [1],
        (1,),
        {"a": 1},
        {1},
        b"bytes",
        object(),
        2**63,
        -(2**63) - 1,
        Decimal("NaN"),
        Decimal("Infinity"),
        Decimal(10**38),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_sql_type_is_refused_by_name(ground: Workspace, value: Any):
    with pytest.raises(core.InvalidInput, match="parameter stray") as caught:
        ground.sql("SELECT :stray", stray=value)
    assert caught.value.field == "stray"


def test_numpy_numbers_are_numbers(ground: Workspace):
    numpy = pytest.importorskip("numpy")
    row = ground.sql("SELECT :i AS i, :f AS f", i=numpy.int64(7), f=numpy.float32(0.5))[0]
    assert row == {"i": 7, "f": 0.5}


def test_nested_and_binary_columns_become_python_values(ground: Workspace):
    (row,) = ground.sql(
        """SELECT array(1, NULL) AS a, map('k', 1.5D) AS m, named_struct('x', 'y') AS s, cast('é' AS BINARY) AS b,
                  cast(1 AS TINYINT) AS t, cast(0.5 AS FLOAT) AS f, cast(NULL AS INT) AS n"""
    )
    assert row == {"a": [1, None], "m": {"k": 1.5}, "s": {"x": "y"}, "b": "é".encode(), "t": 1, "f": 0.5, "n": None}


def test_a_parameter_may_be_called_statement(ground: Workspace):
    assert ground.sql("SELECT :statement AS s", statement="x") == [{"s": "x"}]


def test_execute_counts_written_rows(ground: Workspace, settings: Settings):
    schema = f"{settings.catalog}.workspace_{core.new_id()[:8]}"
    ground.execute(f"CREATE CATALOG IF NOT EXISTS {settings.catalog}")
    ground.execute(f"CREATE SCHEMA {schema}")
    assert ground.execute(f"CREATE TABLE {schema}.t (x INT) USING DELTA") is None
    assert ground.execute(f"INSERT INTO {schema}.t VALUES (1), (2), (3)") == 3
    assert ground.execute(f"UPDATE {schema}.t SET x = 0 WHERE x > :limit", limit=1) == 2
    with pytest.raises(core.AlreadyExists):
        ground.execute(f"CREATE TABLE {schema}.t (x INT) USING DELTA")
    with pytest.raises(core.AlreadyExists):
        ground.execute(f"CREATE SCHEMA {schema}")
    ground.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.mark.parametrize(
    ("statement", "ours"),
    [
        ("SELECT * FROM {catalog}.nowhere.nothing", core.NotFound),
        ("DROP TABLE {catalog}.nowhere.nothing", core.NotFound),
        ("SELECT nothing", core.InvalidInput),
        ("SELEC 1", core.InvalidInput),
        ("SELECT :unbound", core.InvalidInput),
        ("SELECT cast('x' AS INT) AS x", core.InvalidInput),
        ("SELECT 1 AS a, 2 AS a", core.InvalidInput),
    ],
)
def test_a_failing_statement_is_our_error(ground: Workspace, settings: Settings, statement: str, ours: type[Exception]):
    with pytest.raises(core.SotaError) as caught:
        ground.sql(statement.format(catalog=settings.catalog))
    assert type(caught.value) is ours


def test_bound_values_never_show_in_errors(ground: Workspace):
    with pytest.raises(core.SotaError) as caught:
        ground.sql("SELECT * FROM nowhere.nothing WHERE name = :name", name="private-name")
    assert "private-name" not in str(caught.value)


def test_a_statement_is_cancelled_at_the_deadline_of_the_call(ground: Workspace):
    endless = "SELECT sum(id % 7) AS n FROM range(1000000000000)"
    with core.call_scope(timeout=0.5), pytest.raises(core.DeadlineExceeded):
        ground.sql(endless)
    assert ground.sql("SELECT 1 AS one") == [{"one": 1}]


def test_threads_share_one_workspace(ground: Workspace):
    results: dict[int, int] = {}

    def ask(n: int) -> None:
        results[n] = ground.sql("SELECT :n AS n", n=n)[0]["n"]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: n for n in range(16)}


def test_files_are_written_whole_and_never_by_accident(ground: Workspace, settings: Settings):
    settings = replace(settings, schema=f"workspace_{core.new_id()[:8]}")
    schema, volume = f"{settings.catalog}.{settings.schema}", settings.volume("staging")
    ground.execute(f"CREATE SCHEMA {schema}")
    with pytest.raises(core.NotFound):
        ground.write_file(f"{volume}/a.txt", b"no such volume yet")
    ground.execute(f"CREATE VOLUME {settings.full_name(settings.staging_volume)}")
    path = f"{volume}/deep/folder/ä file.bin"
    for data in (b"", bytes(range(256)) * 1000):
        ground.write_file(path, data, overwrite=True)
        assert ground.read_file(path) == data
    with pytest.raises(core.AlreadyExists, match="file"):
        ground.write_file(path, b"other")
    assert ground.read_file(path) == data
    assert ground.list_files(f"{volume}/deep/folder") == ["ä file.bin"]
    assert ground.list_files(f"{volume}/deep") == []
    for attempt in (ground.read_file, ground.list_files):
        with pytest.raises(core.NotFound):
            attempt(f"{volume}/missing")
    ground.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (errors.ResourceDoesNotExist("m"), core.NotFound),
        (errors.ResourceAlreadyExists("m"), core.AlreadyExists),
        (errors.ResourceConflict("m"), core.AlreadyExists),
        (errors.Aborted("m"), core.Unavailable),
        (errors.Unauthenticated("m"), core.PermissionDenied),
        (errors.PermissionDenied("m"), core.PermissionDenied),
        (errors.RequestLimitExceeded("m", retry_after_secs=7), core.RateLimited),
        (errors.TemporarilyUnavailable("m"), core.Unavailable),
        (errors.InternalError("m"), core.Unavailable),
        (errors.DeadlineExceeded("m"), core.Unavailable),
        (errors.NotImplemented("m"), core.ConfigurationError),
        (errors.InvalidParameterValue("m"), core.InvalidInput),
        (errors.DatabricksError("m"), core.Unavailable),
        (requests.ConnectionError("m"), core.Unavailable),
        (TimeoutError("m"), core.Unavailable),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_every_error_of_the_sdk_becomes_one_of_ours(theirs: Exception, ours: type[Exception]):
    with pytest.raises(core.SotaError, match=r"reading x: .*m") as caught, translate("reading x"):
        raise theirs
    assert type(caught.value) is ours
    assert caught.value.__cause__ is theirs
    if ours is core.RateLimited:
        assert caught.value.retry_after == 7


def test_what_the_sdk_gave_up_on_tells_why():
    with pytest.raises(core.RateLimited) as caught, translate("asking"):
        raise TimeoutError("timed out after 60 s") from errors.TooManyRequests("slow down", retry_after_secs=3)
    assert (caught.value.retry_after, "slow down" in str(caught.value)) == (3, True)


def test_our_own_errors_pass_through_unchanged():
    mine = core.NotFound("mine")
    with pytest.raises(core.NotFound) as caught, translate("asking"):
        raise mine
    assert caught.value is mine


class _Website(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(503 if self.path.startswith("/down/") else 404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def website() -> Iterator[str]:
    """Something that speaks HTTP and is no workspace."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Website) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_check_says_who_we_are(ground: Workspace):
    assert "@" in ground.check()


def test_check_names_host_and_setting(settings: Settings, website: str):
    for host in (
        "http://127.0.0.1:9",
        website,
        f"{website}/down",
        settings.host.replace("http:", "https:"),
        "http://no.such.host.invalid",
    ):
        with pytest.raises(core.Unavailable) as caught:
            Workspace(replace(settings, host=host)).check()
        assert host in str(caught.value)
        assert "DATABRICKS_HOST" in str(caught.value)


def test_a_wrong_token_is_named_and_not_shown(settings: Settings):
    with pytest.raises(core.PermissionDenied, match="DATABRICKS_TOKEN") as caught:
        Workspace(replace(settings, token="dapi-wrong-secret")).check()
    assert "dapi-wrong-secret" not in str(caught.value)


def test_without_credentials_the_variables_are_named(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN", "DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(core.ConfigurationError, match="DATABRICKS_TOKEN"):
        Workspace(replace(settings, token=None)).auth_headers()
    with pytest.raises(core.ConfigurationError, match="DATABRICKS_HOST is not set"):
        Workspace(replace(settings, host=None, token=None)).check()


def test_headers_carry_the_token(ground: Workspace, settings: Settings):
    assert ground.auth_headers() == {"Authorization": f"Bearer {settings.token}"}
