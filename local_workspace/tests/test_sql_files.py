"""Files in volumes as rows: read_files, paths in FROM, LIST and COPY INTO, with hostile paths and kills."""

import concurrent.futures
import io
import time

import pytest
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.sql import StatementState

from local_workspace.tests.conftest import Running, start_workspace
from local_workspace.tests.test_sql import execute, failure, lake_process, rows

VOLUME = "/Volumes/main/filing/files"
CONTENT = {
    "people/1.csv": b'id,name,score\n1,"a,b",1.5\n2,,\n',
    "people/2.csv": b"id,name,score\n3,c,9\n",
    "people/_hidden.csv": b"id,name,score\n99,x,9\n",
    "events/1.json": b'{"id": 1, "x": {"y": "z"}, "l": [1, 2]}\n{"id": 2}\n',
    "notes.txt": b"hello\nworld\n",
    "semicolons/1.csv": b"7;q\n",
}


@pytest.fixture(scope="module")
def volume(workspace) -> str:
    rows(workspace, "CREATE SCHEMA IF NOT EXISTS main.filing")
    workspace.client.volumes.create("main", "filing", "files", VolumeType.MANAGED)
    for name, content in CONTENT.items():
        workspace.client.files.upload(f"{VOLUME}/{name}", io.BytesIO(content))
    return VOLUME


def test_read_files_tells_formats_columns_and_types(workspace, volume):
    answer = execute(workspace, f"SELECT * FROM read_files('{volume}/people', header => true) ORDER BY id")
    assert [(c.name, c.type_text) for c in answer.manifest.schema.columns] == [
        ("id", "BIGINT"),
        ("name", "STRING"),
        ("score", "DOUBLE"),
    ]
    assert answer.result.data_array == [["1", "a,b", "1.5"], ["2", None, None], ["3", "c", "9.0"]]
    assert rows(
        workspace,
        f"SELECT r.id + 1 FROM read_files('{volume}/people/{{1,2}}.csv', format => 'csv', header => true, "
        "schema => 'id INT, name STRING, score DOUBLE') AS r WHERE r.score > :least",
        {"least": ("2", "INT")},
    ) == [["4"]]
    assert rows(workspace, f"SELECT * FROM read_files('{volume}/semicolons/*.csv', sep => ';')") == [["7", "q"]]
    hinted = execute(
        workspace, f"SELECT id FROM read_files('{volume}/people', header => true, schemaHints => 'id STRING')"
    )
    assert hinted.manifest.schema.columns[0].type_text == "STRING"
    events = f"SELECT x.y, l[1] FROM read_files('{volume}', fileNamePattern => '*.json') WHERE id = 1"
    assert rows(workspace, events) == [["z", "2"]]
    rows(workspace, f"CREATE TABLE main.filing.loaded AS SELECT id FROM read_files('{volume}/people', header => true)")
    assert rows(workspace, "SELECT count(*) FROM main.filing.loaded") == [["3"]]
    seen = f"SELECT id FROM read_files('{volume}/people', header => true)"
    rows(workspace, f"CREATE VIEW main.filing.seen AS {seen}")
    assert rows(workspace, "SELECT max(id) FROM main.filing.seen") == [["3"]]


def test_a_path_is_read_in_from(workspace, volume):
    assert rows(workspace, f"SELECT * FROM text.`{volume}/notes.txt`") == [["hello"], ["world"]]
    assert rows(workspace, f"SELECT _c0 FROM csv.`{volume}/semicolons`") == [["7;q"]]
    assert rows(workspace, f"SELECT count(*) FROM json.`{volume}/events` AS e WHERE e.id = 2") == [["1"]]
    binary = f"SELECT path, length FROM binaryFile.`{volume}/notes.txt`"
    assert rows(workspace, binary) == [[f"dbfs:{volume}/notes.txt", "12"]]
    names = [row[1] for row in rows(workspace, f"LIST '{volume}'")]
    assert names == ["events/", "notes.txt", "people/", "semicolons/"]
    assert rows(workspace, f"LIST '{volume}/people/1.csv'")[0][:3] == [f"{volume}/people/1.csv", "1.csv", "30"]


OUTSIDE = [
    "/etc",
    "/etc/passwd",
    "file:///etc/passwd",
    "s3://b/c",
    "/Volumes/main",
    "/Volumes/../etc",
    "/Volumes/main/filing/nowhere/x",
    f"{VOLUME}/../../..",
    f"{VOLUME}/nowhere",
    f"{VOLUME}/no*where",
    "",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_statement_reads_outside_of_a_volume(workspace, volume, path):
    for sql in (
        f"SELECT * FROM read_files('{path}', format => 'text')",
        f"SELECT * FROM text.`{path or '/'}`",
        f"COPY INTO main.filing.loaded FROM '{path}' FILEFORMAT = TEXT",
    ):
        message = failure(workspace, sql)
        assert any(
            word in message for word in ("INVALID_PATH", "PATH_NOT_FOUND", "UNSUPPORTED", "VOLUME_DOES_NOT_EXIST")
        )
    assert "INSERT OVERWRITE DIRECTORY" in failure(workspace, "INSERT OVERWRITE DIRECTORY '/tmp/x' USING csv SELECT 1")


def test_a_link_does_not_lead_out_of_a_volume(workspace, volume, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    folder = workspace.root / "volumes" / "main" / "filing" / "files" / "links"
    folder.mkdir()
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "out").symlink_to(tmp_path)
    for path in ("links", "links/link.txt", "links/*.txt", "links/out", "links/out/secret.txt"):
        assert "INVALID_PATH" in failure(workspace, f"SELECT * FROM read_files('{VOLUME}/{path}', format => 'text')")
        assert "INVALID_PATH" in failure(workspace, f"SELECT * FROM text.`{VOLUME}/{path}`")
    assert rows(workspace, f"LIST '{VOLUME}/links'") == []


def test_what_cannot_be_read_is_refused_by_name(workspace, volume):
    assert "the option mode" in failure(workspace, f"SELECT * FROM read_files('{volume}/people', mode => 'FAILFAST')")
    assert "AVRO" in failure(workspace, f"SELECT * FROM read_files('{volume}/people', format => 'avro')")
    assert "NON_FOLDABLE" in failure(workspace, f"SELECT * FROM read_files('{volume}/people', format => concat('c'))")
    assert "COPY_OPTIONS x" in failure(
        workspace, f"COPY INTO main.filing.t FROM '{volume}' FILEFORMAT = CSV COPY_OPTIONS ('x' = 'y')"
    )


def test_copy_into_loads_each_file_once(workspace, volume):
    rows(workspace, "CREATE OR REPLACE TABLE main.filing.people (id BIGINT, name STRING, score DOUBLE)")
    copy = f"COPY INTO main.filing.people FROM '{volume}/people' FILEFORMAT = CSV FORMAT_OPTIONS ('header' = 'true')"
    answer = execute(workspace, f"{copy} FILES = ('1.csv')")
    assert [c.name for c in answer.manifest.schema.columns] == [
        "num_affected_rows", "num_inserted_rows", "num_skipped_corrupt_files"
    ]  # fmt: skip
    assert answer.result.data_array == [["2", "2", "0"]]
    assert rows(workspace, copy) == [["1", "1", "0"]]
    assert rows(workspace, copy) == [["0", "0", "0"]]
    assert rows(workspace, f"{copy} COPY_OPTIONS ('force' = 'true')") == [["3", "3", "0"]]
    assert rows(workspace, "SELECT count(*), sum(id) FROM main.filing.people") == [["6", "12"]]


def test_copy_into_transforms_and_widens(workspace, volume):
    rows(workspace, "CREATE OR REPLACE TABLE main.filing.events (id INT, why STRING)")
    events = f"COPY INTO main.filing.events FROM '{volume}/events' FILEFORMAT = JSON"
    assert "COPY_INTO_SCHEMA_MISMATCH" in failure(workspace, events)
    source = f"(SELECT id, x.y AS why FROM '{volume}/events' WHERE id = 1)"
    chosen = f"COPY INTO main.filing.events FROM {source} FILEFORMAT = JSON"
    assert rows(workspace, chosen) == [["1", "1", "0"]]
    assert rows(workspace, f"{events} COPY_OPTIONS ('mergeSchema' = 'true')") == [["0", "0", "0"]]
    assert rows(workspace, f"{events} COPY_OPTIONS ('mergeSchema' = 'true', 'force' = 'true')") == [["2", "2", "0"]]
    assert rows(workspace, "SELECT id, why, x.y FROM main.filing.events ORDER BY id, why") == [
        ["1", None, "z"], ["1", "z", None], ["2", None, None]
    ]  # fmt: skip
    assert len(workspace.client.tables.get("main.filing.events").columns) == 4


def copied(running: Running) -> bool:
    copy = "COPY INTO main.default.copied FROM '/Volumes/main/default/in' FILEFORMAT = CSV"
    return execute(running, copy).status.state is StatementState.SUCCEEDED


def test_a_kill_in_the_middle_neither_loses_nor_doubles_a_file(tmp_path):
    with start_workspace(tmp_path) as running:
        rows(running, "CREATE VOLUME main.default.in")
        rows(running, "CREATE TABLE main.default.copied (_c0 BIGINT)")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for i in range(12):
                running.client.files.upload(f"/Volumes/main/default/in/{i}.csv", io.BytesIO(b"%d\n%d\n" % (i, i)))
                both = [pool.submit(copied, running) for _ in range(2)]
                if i % 4 == 3:
                    time.sleep(i / 100)
                    lake_process(running).kill()
                for copy in both:
                    copy.result()
        assert any(copied(running) for _attempt in range(3))
        found = rows(running, "SELECT _c0, count(*) FROM main.default.copied GROUP BY _c0 ORDER BY _c0")
        assert found == [[str(i), "2"] for i in range(12)]
