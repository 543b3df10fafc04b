"""A dozen kill -9 under a mixed load: nothing acknowledged is lost, nothing torn, nothing doubled. `bench` does 200."""

from contextlib import closing

from local_workspace.tests.mixed_load import INDEX, TABLE, UPSERTED, VOLUME, MixedLoad, kill_at_random


def test_nothing_acknowledged_is_lost_when_processes_are_killed(tmp_path):
    outcome = kill_at_random(tmp_path, kills=12, seed=7)
    assert outcome.faults == []
    assert all(outcome.acknowledged.values()), outcome.acknowledged
    assert outcome.recovered, "the workspace itself was never killed"


def test_the_check_names_what_is_lost_torn_or_doubled(workspace):
    with closing(MixedLoad(seed=7)) as load:
        load.connect(workspace)
        load.set_up()
        with load.running():
            load.wait_for_each()
        assert load.faults() == []

        upload, older = f"/api/2.0/fs/files{VOLUME}/1.txt", load.ledgers["merge"].tried["1"][0]
        load.call("PUT", upload, params={"overwrite": "true"}, content=b"half of it")
        load.sql(f"INSERT INTO {TABLE} VALUES ('insert-1', '{load.ledgers['insert'].acknowledged['insert-1']}')")
        load.sql(f"DELETE FROM {UPSERTED} WHERE id = '1'")
        load.call("DELETE", f"/api/2.0/vector-search/indexes/{INDEX}/delete-data", params={"primary_keys": "vector-1"})
        run = next(run for run in load.runs() if run["run_name"] == load.ledgers["job"].acknowledged["job-1"])
        load.call("POST", "/api/2.2/jobs/runs/delete", json={"run_id": run["run_id"]})
        lost = ["lost: merge 1", "lost: vector vector-1", "lost: job job-1"]
        assert sorted(load.faults()) == sorted(["torn: upload 1", "doubled: insert insert-1", *lost])

        load.sql(f"INSERT INTO {UPSERTED} VALUES ('1', '{older}')")
        load.ledgers["merge"].tried["1"].append("newer")
        load.ledgers["merge"].acknowledged["1"] = "newer"
        assert "lost: merge 1 is an older version" in load.faults()
