"""Vector search as every client says it: endpoints' settings, service principals, the async index, what is refused."""

import pytest
from databricks.ai_search.client import AISearchClient
from databricks.ai_search.exceptions import AISearchException
from databricks.ai_search.reranker import DatabricksReranker
from databricks.sdk.errors import BadRequest, NotFound
from databricks.sdk.service.vectorsearch import CustomTag, EndpointType

from local_workspace.tests.test_vector_search import ROWS, create_index

NAME = "main.default.clients"


@pytest.fixture(scope="module")
def index(workspace):
    workspace.client.vector_search_endpoints.create_endpoint_and_wait("clients", EndpointType.STANDARD)
    create_index(workspace.client, NAME, "clients")
    library = AISearchClient(workspace_url=workspace.host, personal_access_token=workspace.token, disable_notice=True)
    index = library.get_index("clients", NAME)
    index.upsert(ROWS)
    return index


def test_what_is_set_on_an_endpoint_is_kept(workspace):
    endpoints = workspace.client.vector_search_endpoints
    made = endpoints.create_endpoint_and_wait("settings", EndpointType.STANDARD, target_qps=50, budget_policy_id="b1")
    assert (made.scaling_info.requested_target_qps, made.budget_policy_id) == (50, "b1")
    assert endpoints.patch_endpoint("settings", target_qps=70).scaling_info.requested_target_qps == 70
    changed = endpoints.update_endpoint_budget_policy("settings", "b2")
    assert changed.effective_budget_policy_id == "b2"
    tags = [CustomTag("team", "fraud"), CustomTag("alone")]
    assert endpoints.update_endpoint_custom_tags("settings", tags).custom_tags == tags
    found = endpoints.get_endpoint("settings")
    assert (found.custom_tags, found.budget_policy_id, found.num_indexes) == (tags, "b2", 0)
    with pytest.raises(BadRequest, match="target_qps"):
        endpoints.create_endpoint("large-qps", EndpointType.STORAGE_OPTIMIZED, target_qps=1)
    endpoints.delete_endpoint("settings")
    with pytest.raises(NotFound):
        endpoints.get_endpoint("settings")
    for missing in (
        lambda: endpoints.patch_endpoint("settings", target_qps=1),
        lambda: endpoints.update_endpoint_custom_tags("settings", tags),
        lambda: endpoints.delete_endpoint("settings"),
    ):
        with pytest.raises(NotFound):
            missing()


def test_a_service_principal_searches_with_oauth(workspace, index):
    principal = workspace.client.service_principals.create(display_name="searcher")
    secret = workspace.http.post(
        f"/api/2.0/accounts/servicePrincipals/{principal.id}/credentials/secrets", json={}
    ).json()["secret"]
    library = AISearchClient(
        workspace_url=workspace.host,
        service_principal_client_id=principal.application_id,
        service_principal_client_secret=secret,
        disable_notice=True,
    )
    found = library.get_index("clients", NAME)
    answer = found.similarity_search(columns=["id"], query_vector=[1, 0, 1], num_results=1, disable_notice=True)
    assert answer["result"]["data_array"] == [["1", 1.0]]
    assert found.upsert([ROWS[0]])["status"] == "SUCCESS"
    assert found.scan(1)["last_primary_key"] == "0"


async def test_the_async_index(workspace, index):
    library = AISearchClient(workspace_url=workspace.host, personal_access_token=workspace.token, disable_notice=True)
    async with library.get_async_index("clients", NAME) as found:
        answer = await found.similarity_search(columns=["id"], query_vector=[2, 0, 1], num_results=1)
        assert answer["result"]["data_array"] == [["2", 1.0]]
        assert (await found.describe())["status"]["ready"] is True


def test_debug_level_and_query_columns(index):
    answer = index.similarity_search(
        columns=["id"],
        query_text="zebra",
        query_type="FULL_TEXT",
        query_columns=["text"],
        debug_level=1,
        disable_notice=True,
    )
    assert {row[0] for row in answer["result"]["data_array"]} == {"1", "4"}
    assert answer["debug_info"]["response_time"] > 0
    with pytest.raises(AISearchException, match=r"query_columns.*'colour'"):
        index.similarity_search(
            columns=["id"], query_text="a", query_type="FULL_TEXT", query_columns=["colour"], disable_notice=True
        )


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"reranker": DatabricksReranker(["text"])}, "reranker"),
        ({"facets": ["text"]}, "facets"),
        ({"sort_columns": ["count ASC"]}, "sort_columns"),
    ],
)
def test_what_there_is_not_is_refused_by_name(index, options, named):
    with pytest.raises(AISearchException, match=f"{named} is not available") as raised:
        index.similarity_search(columns=["id"], query_vector=[0, 0, 1], disable_notice=True, **options)
    assert raised.value.status_code == 501


def test_an_upsert_beyond_the_limit_is_refused_as_it_comes(workspace, index):
    def endless():
        yield b'{"inputs_json": "'
        for _ in range(70):
            yield b" " * 2**20
        yield b'"}'

    refused = workspace.http.post(f"/api/2.0/vector-search/indexes/{NAME}/upsert-data", content=endless())
    assert refused.status_code == 400
    assert "fewer rows" in refused.json()["message"]
    assert index.describe()["status"]["indexed_row_count"] == len(ROWS)
