"""Results of statements by links: formats, chunks, limits, signatures."""

import csv
import io
import json

import httpx
import pyarrow as pa
import pytest
from databricks.sdk.errors import BadRequest
from databricks.sdk.service.sql import Disposition, Format

from local_workspace.tests.test_sql import execute

LINKS = Disposition.EXTERNAL_LINKS


def linked(workspace, sql: str, form: Format, **options):
    return execute(workspace, sql, disposition=LINKS, format=form, **options)


def contents(workspace, answer) -> list[bytes]:
    """The files behind a result's links, each got without a token."""
    links, found = answer.result.external_links, []
    while links:
        [link] = links
        got = httpx.get(link.external_link, headers=link.http_headers or {})
        assert (got.status_code, len(got.content)) == (200, link.byte_count)
        found.append(got.content)
        following = link.next_chunk_index
        api = workspace.client.statement_execution
        links = following and api.get_statement_result_chunk_n(answer.statement_id, following).external_links
    return found


def test_arrow(workspace):
    answer = linked(workspace, "SELECT id, repeat('x', 100) AS s FROM range(100000) ORDER BY id", Format.ARROW_STREAM)
    files = contents(workspace, answer)
    table = pa.concat_tables(pa.ipc.open_stream(file).read_all() for file in files)
    assert table["id"].to_pylist() == list(range(100000))
    assert len(files) == answer.manifest.total_chunk_count == len(answer.manifest.chunks) > 1
    assert (answer.manifest.format, answer.manifest.total_row_count) == (Format.ARROW_STREAM, 100000)
    assert answer.manifest.total_byte_count == sum(map(len, files))
    empty = linked(workspace, "SELECT id FROM range(0)", Format.ARROW_STREAM)
    [file] = contents(workspace, empty)
    assert pa.ipc.open_stream(file).read_all().schema.names == ["id"]


def test_json_and_csv(workspace):
    columns = "concat('id-', id) AS strCol, id AS intCol, NULL AS nullCol, 'a,\"b\"\n' AS odd"
    sql = f"SELECT {columns} FROM range(25000) ORDER BY id"
    files = contents(workspace, linked(workspace, sql, Format.JSON_ARRAY))
    rows = [row for file in files for row in json.loads(file)]
    assert (len(files), rows[-1]) == (3, ["id-24999", "24999", None, 'a,"b"\n'])
    files = contents(workspace, linked(workspace, sql, Format.CSV))
    lines = list(csv.reader(io.StringIO(b"".join(files).decode(), newline="")))
    assert lines[0] == ["strCol", "intCol", "nullCol", "odd"]
    assert (len(lines), lines[-1]) == (25001, ["id-24999", "24999", "null", 'a,"b"\n'])


def test_more_than_inline_may_have(workspace):
    sql = "SELECT repeat('x', 1000000) AS s FROM range(30)"
    assert sum(map(len, contents(workspace, linked(workspace, sql, Format.JSON_ARRAY)))) > 30_000_000


@pytest.mark.parametrize("form", list(Format))
def test_limits(workspace, form):
    by_rows = linked(workspace, "SELECT id FROM range(100)", form, row_limit=7)
    assert (by_rows.manifest.truncated, by_rows.manifest.total_row_count) == (True, 7)
    by_bytes = linked(workspace, "SELECT repeat('x', 100) FROM range(100)", form, byte_limit=1000)
    assert (by_bytes.manifest.truncated, by_bytes.manifest.total_row_count) == (True, 9)
    whole = linked(workspace, "SELECT id FROM range(7)", form, row_limit=7)
    assert not whole.manifest.truncated


def test_a_link_is_good_for_its_chunk_alone_and_not_for_ever(workspace):
    answer = linked(workspace, "SELECT 1", Format.JSON_ARRAY)
    [link] = answer.result.external_links
    assert link.expiration.endswith("Z")
    url = httpx.URL(link.external_link)
    assert httpx.get(url).content == b'[["1"]]'
    for wrong in ({"signature": "0" * 64}, {"expires": "9999999999"}, {"expires": "1"}):
        assert httpx.get(url.copy_merge_params(wrong)).status_code == 403
    assert httpx.get(url.copy_with(path=url.path.replace("/0", "/1"))).status_code == 403
    assert httpx.get(url.copy_with(query=None)).status_code == 400


def test_other_formats_than_json_need_links(workspace):
    for form in (Format.ARROW_STREAM, Format.CSV):
        with pytest.raises(BadRequest, match="EXTERNAL_LINKS"):
            execute(workspace, "SELECT 1", format=form)
