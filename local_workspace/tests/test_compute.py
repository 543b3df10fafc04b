"""Clusters and commands with the genuine SDK."""

import signal
import time

import psutil
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    BadRequest,
    DatabricksError,
    InvalidParameterValue,
    InvalidState,
    NotFound,
    NotImplemented,
    ResourceDoesNotExist,
)
from databricks.sdk.service.compute import (
    AutoScale,
    ClusterSource,
    CommandStatus,
    EventType,
    GetEventsOrder,
    Language,
    ListClustersFilterBy,
    ListClustersSortBy,
    ListClustersSortByDirection,
    ListClustersSortByField,
    ResultType,
    State,
    UpdateClusterResource,
)

from local_workspace.tests.conftest import start_workspace

VERSION = "16.4.x-scala2.12"
PYTHON, SQL = Language.PYTHON, Language.SQL


@pytest.fixture(scope="module")
def cluster(workspace) -> str:
    made = workspace.client.clusters.create(
        spark_version=VERSION, num_workers=0, cluster_name="commands", spark_env_vars={"FLAVOUR": "{{secrets/cl/key}}"}
    )
    workspace.client.secrets.create_scope("cl")
    workspace.client.secrets.put_secret("cl", "key", string_value="sweet")
    yield made.cluster_id
    workspace.client.clusters.permanent_delete(made.cluster_id)


def alive(pid: int) -> bool:
    """Whether a process runs; what nobody has waited for yet is dead all the same."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Context:
    """An execution context and a way to run commands in it."""

    def __init__(self, client: WorkspaceClient, cluster_id: str, language: Language = PYTHON):
        self.api, self.cluster_id, self.language = client.command_execution, cluster_id, language
        self.id = self.api.create_and_wait(cluster_id=cluster_id, language=language).id

    def start(self, command: str):
        """The id of a command that runs."""
        where = {"cluster_id": self.cluster_id, "context_id": self.id}
        return self.api.execute(**where, language=self.language, command=command).command_id

    def run(self, command: str, language: Language | None = None):
        """The results of a command that has ended."""
        where = {"cluster_id": self.cluster_id, "context_id": self.id}
        return self.api.execute_and_wait(**where, language=language or self.language, command=command).results


@pytest.fixture(scope="module")
def python(workspace, cluster) -> Context:
    return Context(workspace.client, cluster)


def test_a_cluster_lives_from_create_to_permanent_delete(workspace):
    clusters = workspace.client.clusters
    made = clusters.create_and_wait(
        spark_version=VERSION,
        autoscale=AutoScale(min_workers=1, max_workers=3),
        cluster_name="life",
        autotermination_minutes=10,
    )
    assert (made.state, made.cluster_name, made.autoscale.max_workers) == (State.RUNNING, "life", 3)
    assert made.default_tags["ClusterId"] == made.cluster_id
    assert made.spec.spark_version == VERSION
    clusters.resize(made.cluster_id, num_workers=2)
    assert (clusters.get(made.cluster_id).num_workers, clusters.get(made.cluster_id).autoscale) == (2, None)
    clusters.restart_and_wait(made.cluster_id)
    ended = clusters.delete_and_wait(made.cluster_id)
    assert (ended.state, ended.termination_reason.code.value) == (State.TERMINATED, "USER_REQUEST")
    clusters.ensure_cluster_is_running(made.cluster_id)
    clusters.edit(made.cluster_id, VERSION, num_workers=1, cluster_name="edited")
    clusters.update(made.cluster_id, "cluster_name,num_workers", cluster=UpdateClusterResource(num_workers=4))
    assert (clusters.get(made.cluster_id).cluster_name, clusters.get(made.cluster_id).num_workers) == ("", 4)
    clusters.delete_and_wait(made.cluster_id)
    clusters.change_owner(made.cluster_id, "new@owner")
    assert clusters.get(made.cluster_id).creator_user_name == "new@owner"
    kinds = [event.type for event in clusters.events(made.cluster_id, order=GetEventsOrder.ASC, page_size=2)]
    life = (EventType.CREATING, EventType.RUNNING, EventType.RESIZING, EventType.UPSIZE_COMPLETED, EventType.RESTARTING)
    assert tuple(kinds[:5]) == life
    wanted = [EventType.STARTING, EventType.TERMINATING]
    assert [e.type for e in clusters.events(made.cluster_id, event_types=wanted)] == [wanted[1], wanted[0], wanted[1]]
    clusters.permanent_delete(made.cluster_id)
    with pytest.raises(ResourceDoesNotExist, match=f"Cluster {made.cluster_id} does not exist") as gone:
        clusters.get(made.cluster_id)
    assert gone.value.error_code == "INVALID_PARAMETER_VALUE"


def test_clusters_are_listed_filtered_sorted_and_pinned(workspace):
    clusters = workspace.client.clusters
    ids = [clusters.create(spark_version=VERSION, num_workers=0, cluster_name=f"list-{n}").cluster_id for n in "abc"]
    clusters.delete_and_wait(ids[2])
    clusters.pin(ids[1])
    running = ListClustersFilterBy(cluster_states=[State.RUNNING], cluster_sources=[ClusterSource.API])
    found = [c.cluster_id for c in clusters.list(filter_by=running, page_size=1)]
    assert set(ids[:2]) <= set(found)
    assert ids[2] not in found
    assert [c.cluster_id for c in clusters.list(filter_by=ListClustersFilterBy(is_pinned=True))] == [ids[1]]
    order = ListClustersSortBy(ListClustersSortByDirection.DESC, ListClustersSortByField.CLUSTER_NAME)
    names = [c.cluster_name for c in clusters.list(sort_by=order)]
    assert names == sorted(names, reverse=True)
    clusters.unpin(ids[1])
    assert list(clusters.list(filter_by=ListClustersFilterBy(is_pinned=True))) == []
    for cluster_id in ids:
        clusters.permanent_delete(cluster_id)


def test_what_a_cluster_can_be_made_of(workspace):
    w = workspace.client
    assert w.clusters.select_spark_version(long_term_support=True) == VERSION
    assert (
        w.clusters.select_node_type(local_disk=True, min_cores=1)
        == w.clusters.list_node_types().node_types[0].node_type_id
    )
    pool = w.instance_pools.create("life", "local-1", idle_instance_autotermination_minutes=5).instance_pool_id
    made = w.clusters.create_and_wait(spark_version=VERSION, num_workers=1, instance_pool_id=pool)
    assert made.instance_pool_id == pool
    w.instance_pools.edit(pool, "other name", "local-1")
    assert w.instance_pools.get(pool).instance_pool_name == "other name"
    assert pool in [p.instance_pool_id for p in w.instance_pools.list()]
    w.instance_pools.delete(pool)
    with pytest.raises(NotFound):
        w.instance_pools.get(pool)
    assert list(w.cluster_policies.list()) == []
    w.clusters.permanent_delete(made.cluster_id)


def test_what_is_refused(workspace, cluster):
    clusters = workspace.client.clusters
    for options in (
        {"spark_version": "nonsense"},
        {"spark_version": VERSION, "num_workers": -1},
        {"spark_version": VERSION, "num_workers": 1, "autoscale": AutoScale(min_workers=1, max_workers=2)},
        {"spark_version": VERSION, "autoscale": AutoScale(min_workers=3, max_workers=2)},
        {"spark_version": VERSION, "autotermination_minutes": 5},
    ):
        with pytest.raises(InvalidParameterValue):
            clusters.create(**options)
    with pytest.raises(NotImplemented, match="policy_id"):
        clusters.create(spark_version=VERSION, policy_id="x")
    with pytest.raises(NotFound, match="instance pool"):
        clusters.create(spark_version=VERSION, instance_pool_id="x")
    with pytest.raises(InvalidState):
        clusters.start(cluster)
    for name in ("create", "edit", "update", "delete", "start", "restart", "resize", "events", "pin", "change-owner"):
        for body in (b"", b"[]", b'{"cluster_id": 5}', b'{"cluster_id": "x", "spark_version": 5, "page_size": "y"}'):
            assert workspace.http.post(f"/api/2.1/clusters/{name}", content=body).status_code == 400, name
    assert workspace.http.get("/api/2.1/clusters/list", params={"page_token": "%"}).status_code == 400
    for body in (b"[]", b'{"instance_pool_name": 5}', b'{"instance_pool_name": "x"}'):
        assert workspace.http.post("/api/2.0/instance-pools/create", content=body).status_code == 400


def test_names_stay_from_command_to_command(python):
    assert not python.run("x = 20").data
    assert python.run("print(x + 1)\nx + 2").data == "21\n22"
    assert python.run("import os; os.environ['FLAVOUR']").data == "'sweet'"
    failed = python.run("x / 0")
    assert failed.result_type == ResultType.ERROR
    assert "ZeroDivisionError" in failed.summary
    assert "x / 0" in failed.cause
    assert python.run("print('<b>', 'größe', sep='')").data == "<b>größe"
    assert "&lt;b&gt;" in python.run("raise ValueError('<b>')").summary
    picture = "import matplotlib.pyplot as plt\nplt.figure(figsize=(1, 1)).gca().plot([1, 2])\nplt.show()"
    shown = python.run(picture)
    assert (shown.result_type, shown.file_name[:22]) == (ResultType.IMAGE, "data:image/png;base64,")


def test_tables_of_python_and_sql(python):
    shown = python.run("display(spark.sql(\"SELECT 1 AS a, 'x' AS b\"))")
    assert (shown.result_type, shown.data, shown.truncated) == (ResultType.TABLE, [[1, "x"]], False)
    assert [(column["name"], column["type"]) for column in shown.schema] == [("a", "int"), ("b", "string")]
    python.run("CREATE OR REPLACE TEMP VIEW seen AS SELECT 7 AS seven", SQL)
    assert python.run("SELECT seven FROM seen", SQL).data == [[7]]
    assert python.run("spark.table('seen').first().seven").data == "7"
    missing = python.run("SELECT * FROM no_such_table", SQL)
    assert missing.result_type == ResultType.ERROR
    assert "no_such_table" in missing.summary


def test_code_acts_for_the_caller_with_a_token_of_its_own(workspace, python):
    who = "from databricks.sdk import WorkspaceClient\nprint(WorkspaceClient().current_user.me().user_name)"
    assert python.run(who).data == "developer@local.workspace"
    environment = python.run("import os; print(sorted(os.environ), os.environ['DATABRICKS_TOKEN'])").data
    assert workspace.token not in environment
    assert "[REDACTED]" in environment


def test_a_running_command_is_cancelled_and_those_behind_it_go_on(workspace, cluster, python):
    api, where = workspace.client.command_execution, {"cluster_id": cluster, "context_id": python.id}
    python.run("import time; y = 1")
    stuck = python.start("y = 2\ntime.sleep(600)\ny = 3")
    waiting = python.start("y = 4")
    behind = python.start("print(y)")
    assert api.command_status(**where, command_id=waiting).status == CommandStatus.QUEUED
    api.cancel_and_wait(**where, command_id=waiting)
    api.cancel_and_wait(**where, command_id=stuck)
    answer = api.wait_command_status_command_execution_finished_or_error(cluster, behind, python.id)
    assert answer.results.data == "2"


def test_a_process_that_dies_or_is_replaced(workspace, cluster):
    context = Context(workspace.client, cluster)
    context.run("z = 1")
    context.run("dbutils.library.restartPython()")
    assert "NameError" in context.run("z").summary
    assert "unexpectedly (3)" in context.run("import os; os._exit(3)").summary
    assert "has ended" in context.run("1").summary
    with pytest.raises(DatabricksError, match="ContextNotFound"):
        workspace.client.command_execution.context_status(cluster, "nothing")


def test_a_context_ends_with_its_cluster_and_leaves_no_process(workspace):
    clusters = workspace.client.clusters
    cluster = clusters.create(spark_version=VERSION, num_workers=0, cluster_name="ends").cluster_id
    context = Context(workspace.client, cluster)
    start = "import os, subprocess; print(os.getpid(), subprocess.Popen(['sleep', '600']).pid)"
    pids = [int(pid) for pid in context.run(start).data.split()]
    clusters.delete_and_wait(cluster)
    assert not any(alive(pid) for pid in pids)
    with pytest.raises(DatabricksError, match="ContextNotFound"):
        context.run("1")
    with pytest.raises(BadRequest, match="IllegalState"):
        Context(workspace.client, cluster)
    clusters.permanent_delete(cluster)
    again = clusters.create(spark_version=VERSION, num_workers=0).cluster_id
    context = Context(workspace.client, again, SQL)
    assert context.run("SELECT 1 AS one").data == [[1]]
    workspace.client.command_execution.destroy(again, context.id)
    with pytest.raises(DatabricksError, match="ContextNotFound"):
        context.run("SELECT 1")
    clusters.permanent_delete(again)


def test_commands_that_make_no_sense(workspace, cluster, python):
    api = workspace.client.command_execution
    with pytest.raises(DatabricksError, match="requirement failed: missing contextId") as missing:
        api.execute(cluster_id="nothing")
    assert missing.value.error_code is None
    with pytest.raises(DatabricksError, match="does not exist"):
        api.create(cluster_id="nothing", language=PYTHON)
    for language in (Language.SCALA, Language.R):
        with pytest.raises(NotImplemented, match="python and sql"):
            api.create(cluster_id=cluster, language=language)
    with pytest.raises(DatabricksError, match="CommandNotFound"):
        api.command_status(cluster, python.id, "nothing")
    for name in ("contexts/create", "contexts/destroy", "commands/execute", "commands/cancel"):
        for body in (b"", b"[]", b'{"clusterId": 5, "contextId": 5, "language": "python", "command": 5}'):
            assert workspace.http.post(f"/api/1.2/{name}", content=body).status_code == 400, name


def test_a_kill_9_leaves_records_but_no_process(tmp_path):
    with start_workspace(tmp_path) as first:
        clusters = first.client.clusters
        cluster = clusters.create(spark_version=VERSION, num_workers=0, autotermination_minutes=10).cluster_id
        context = Context(first.client, cluster)
        pid = int(context.run("import os; print(os.getpid())").data)
        busy = context.start("import time\nwhile True: time.sleep(1)")
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    deadline = time.monotonic() + 30
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)
    with start_workspace(tmp_path) as second:
        assert second.client.clusters.get(cluster).state == State.RUNNING
        with pytest.raises(DatabricksError, match="ContextNotFound"):
            second.client.command_execution.command_status(cluster, context.id, busy)
