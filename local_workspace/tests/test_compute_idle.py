"""When idle clusters end: the service's own rule, with a clock in the test's hand."""

import time

from local_workspace.auth import Auth
from local_workspace.compute.service import Compute
from local_workspace.secrets.references import References
from local_workspace.secrets.store import Secrets
from local_workspace.state import State


async def test_a_cluster_ends_when_nobody_has_used_it_for_its_minutes(tmp_path):
    state = State(tmp_path / "state.db")
    auth = Auth(state, "dapi-test")
    compute = Compute(state, tmp_path, auth, References(Secrets(state)), lambda token: {})
    spec = {"spark_version": "16.4.x-scala2.12"}
    short = compute.create(spec | {"autotermination_minutes": 10}, auth.OWNER)
    never = compute.create(spec, auth.OWNER)
    await compute.expire(time.time() + 599)
    assert compute.clusters.get(short)["state"] == "RUNNING"
    await compute.expire(time.time() + 601)
    assert [compute.clusters.get(c)["state"] for c in (short, never)] == ["TERMINATED", "RUNNING"]
    assert '"INACTIVITY"' in compute.clusters.get(short)["reason"]
    state.close()
