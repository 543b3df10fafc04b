"""The pages in a real browser: a person signs in, finds things by looking, and tries them."""

import io
import json
import shutil

import httpx
import pytest
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.dashboards import Dashboard
from databricks.sdk.service.jobs import SparkPythonTask, Task
from databricks.sdk.service.serving import EndpointCoreConfigInput, ServedEntityInput
from databricks.sdk.service.vectorsearch import (
    DirectAccessVectorIndexSpec,
    EmbeddingVectorColumn,
    EndpointType,
    VectorIndexType,
)
from databricks.sdk.service.workspace import ImportFormat
from playwright.sync_api import Browser, Page, expect, sync_playwright

from local_workspace.tests.conftest import Running
from local_workspace.tests.test_alerts import alert
from local_workspace.tests.test_dashboards import DEFINITION

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAREHOUSE = "10ca1000000000a1"


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine (.ci/run installs it from the distribution)")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser, workspace: Running):
    """A signed-in browser's page."""
    context = browser.new_context(base_url=workspace.host)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Token").fill(workspace.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Local workspace")).to_be_visible()
    yield page
    context.close()


@pytest.fixture(scope="module")
def shop(workspace: Running) -> Running:
    """A schema with a table and a volume with a file."""
    client = workspace.client
    client.schemas.create("pages", "main", comment="for <people>")
    for statement in (
        "CREATE TABLE main.pages.sales (id BIGINT, name STRING COMMENT 'who <b>bought</b>') COMMENT 'all sales'",
        "INSERT INTO main.pages.sales VALUES (1, 'Ada <script>alert(1)</script>'), (2, NULL)",
    ):
        client.statement_execution.execute_statement(statement, WAREHOUSE, wait_timeout="50s")
    client.volumes.create("main", "pages", "files", VolumeType.MANAGED)
    client.files.upload("/Volumes/main/pages/files/deep/Grüße & co.txt", io.BytesIO(b"hello"))
    return workspace


def test_a_wrong_token_is_said_and_nothing_is_shown(browser: Browser, workspace: Running):
    page = browser.new_page(base_url=workspace.host)
    page.goto("/ui/catalog")
    page.get_by_label("Token").fill("dapi-wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("Invalid access token")
    expect(page.get_by_role("link", name="Catalog")).to_have_count(0)
    page.close()


def test_tables_are_found_and_previewed(page: Page, shop: Running):
    dialogs = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    page.get_by_role("link", name="Catalog").first.click()
    expect(page.get_by_text("for <people>")).to_be_visible()
    page.get_by_role("link", name="pages", exact=True).click()
    page.get_by_role("link", name="sales").click()
    expect(page.get_by_text("who <b>bought</b>")).to_be_visible()
    expect(page.get_by_role("cell", name="Ada <script>alert(1)</script>")).to_be_visible()
    expect(page.get_by_role("cell", name="null")).to_be_visible()
    expect(page.get_by_role("heading", name="History")).to_be_visible()
    assert dialogs == []


def test_files_are_found_and_downloaded(page: Page, shop: Running):
    page.goto("/ui/catalog/main/pages")
    page.get_by_role("link", name="files").click()
    page.get_by_role("link", name="deep/").click()
    with page.expect_download() as found:
        page.get_by_role("link", name="Grüße & co.txt").click()
    assert found.value.path().read_bytes() == b"hello"


def test_sql_is_run_and_its_errors_are_said(page: Page, shop: Running):
    page.get_by_role("link", name="SQL").first.click()
    page.get_by_label("Statement").fill("SELECT count(*) AS found FROM main.pages.sales")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("cell", name="2", exact=True)).to_be_visible()
    page.get_by_label("Statement").fill("SELECT * FROM main.pages.nothing")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("alert")).to_contain_text("TABLE_OR_VIEW_NOT_FOUND")


def test_one_talks_to_an_endpoint_and_searches_an_index(page: Page, shop: Running):
    client = shop.client
    for name, entity in (("pages-chat", "system.ai.local_chat"), ("pages-embed", "system.ai.all_minilm_l6_v2")):
        entities = [ServedEntityInput(entity_name=entity, entity_version="1", scale_to_zero_enabled=True)]
        config = EndpointCoreConfigInput(name=name, served_entities=entities)
        client.serving_endpoints.create_and_wait(name, config=config)
    client.vector_search_endpoints.create_endpoint_and_wait("pages", EndpointType.STANDARD)
    schema = json.dumps({"id": "string", "vector": "array<float>", "text": "string"})
    spec = DirectAccessVectorIndexSpec([], [EmbeddingVectorColumn(384, "vector")], schema)
    kind = VectorIndexType.DIRECT_ACCESS
    client.vector_search_indexes.create_index("main.pages.near", "pages", "id", kind, direct_access_index_spec=spec)
    texts = ["a stolen credit card", "a quiet walk in the park"]
    vectors = client.serving_endpoints.query("pages-embed", input=texts).data
    rows = [{"id": text, "text": text, "vector": v.embedding} for text, v in zip(texts, vectors, strict=True)]
    client.vector_search_indexes.upsert_data_vector_index("main.pages.near", json.dumps(rows))

    page.goto("/ui/endpoints")
    page.get_by_role("link", name="pages-chat").click()
    page.get_by_label("Message").fill("Say hello.")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#answer")).not_to_be_empty(timeout=60_000)
    page.goto("/ui/indexes")
    page.get_by_role("link", name="main.pages.near").click()
    page.get_by_label("Search").fill("fraud with a bank card")
    page.get_by_label("text embedded by").select_option("pages-embed")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("row").nth(1)).to_contain_text("a stolen credit card")


def test_a_dashboard_shows_its_queries_results(page: Page, shop: Running):
    shown = Dashboard(display_name="Sales on a page", serialized_dashboard=json.dumps(DEFINITION))
    made = shop.client.lakeview.create(shown)
    page.goto(f"/ui/dashboards/{made.dashboard_id}")
    expect(page.locator(".counter")).to_have_text("36.0")
    expect(page.locator("svg rect")).to_have_count(3)
    watched = shop.client.alerts_v2.create_alert(alert("SELECT 7 AS errors"))
    page.goto("/ui/dashboards")
    page.locator(f"a[href='/ui/alerts/{watched.id}']").click()
    expect(page.get_by_text("SELECT 7 AS errors")).to_be_visible()


def test_a_job_is_run_and_its_log_read(page: Page, shop: Running):
    client = shop.client
    path = f"/Users/{client.current_user.me().user_name}/pages.py"
    client.workspace.upload(path, io.BytesIO(b"print('hello from the log')"), format=ImportFormat.RAW, overwrite=True)
    task = Task("hello", spark_python_task=SparkPythonTask(path))
    client.jobs.create(name="say hello", tasks=[task])
    page.get_by_role("link", name="Jobs").first.click()
    page.get_by_role("link", name="say hello").first.click()
    page.get_by_role("button", name="Run now").click()
    run_id = int(page.url.rsplit("/", 1)[1])
    client.jobs.wait_get_run_job_terminated_or_skipped(run_id)
    page.reload()
    expect(page.get_by_text("SUCCESS").first).to_be_visible()
    expect(page.get_by_text("hello from the log")).to_be_visible()


def test_parity_is_filtered(page: Page):
    page.get_by_role("link", name="Parity").first.click()
    page.get_by_label("Service").select_option("secrets")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("secrets.put_secret")).to_be_visible()
    expect(page.get_by_text("genie")).to_have_count(0)


def test_an_error_is_a_page_that_names_it(page: Page):
    assert page.goto("/ui/table/main.pages.nothing").status == 404
    expect(page.get_by_role("alert")).to_contain_text("main.pages.nothing")


def test_signing_out_ends_the_session(page: Page, workspace: Running):
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.goto("/ui/jobs")
    expect(page.get_by_label("Token")).to_be_visible()


def test_a_form_from_another_site_is_refused(workspace: Running):
    with httpx.Client(base_url=workspace.host, follow_redirects=True) as client:
        client.post("/ui/sign-in", data={"token": workspace.token})
        sent = client.post("/ui/sql", data={"statement": "SELECT 1"}, headers={"Origin": "http://evil.example"})
        assert sent.status_code == 403
        assert client.post("/ui/sql", data={"statement": "SELECT 1"}).status_code == 200


def test_a_link_with_the_token_signs_in_and_hides_it(browser: Browser, workspace: Running):
    page = browser.new_page()
    page.goto(f"{workspace.host}/?token={workspace.token}")
    expect(page.get_by_text("Signed in as")).to_be_visible()
    assert workspace.token not in page.url
    assert workspace.token not in page.content()
    page.close()
