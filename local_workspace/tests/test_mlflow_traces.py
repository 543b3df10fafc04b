"""Traces with MLflow's own client: logged, read, searched, tagged and judged."""

import pytest


@pytest.fixture(scope="module")
def experiment(tracked) -> str:
    """An experiment of its own, active while the module runs."""
    yield tracked.set_experiment("/Shared/traces").experiment_id
    tracked.set_experiment("/Shared/other")


@pytest.fixture(scope="module")
def trace_id(tracked, experiment) -> str:
    """A trace with two spans."""

    @tracked.trace(span_type="RETRIEVER")
    def look_up(question: str) -> list[str]:
        return [question.upper()]

    @tracked.trace(attributes={"model": "small"})
    def answer(question: str) -> str:
        tracked.update_current_trace(tags={"tenant": "a"}, metadata={"version": "7"})
        return f"{look_up(question)[0]}! größe"

    answer("why")
    return tracked.get_last_active_trace_id()


def test_a_trace_comes_back_with_its_spans(tracked, experiment, trace_id):
    trace = tracked.get_trace(trace_id)
    assert trace.info.experiment_id == experiment and trace.info.state == "OK"
    assert trace.info.tags["tenant"] == "a" and trace.info.trace_metadata["version"] == "7"
    root, child = trace.data.spans
    assert (root.name, child.name, child.parent_id) == ("answer", "look_up", root.span_id)
    assert root.inputs == {"question": "why"} and root.outputs == "WHY! größe"
    assert child.span_type == "RETRIEVER" and root.attributes["model"] == "small"


def test_traces_are_searched(tracked, experiment, trace_id):
    found = tracked.search_traces(locations=[experiment], filter_string="tags.tenant = 'a'", return_type="list")
    assert [trace.info.trace_id for trace in found] == [trace_id]
    assert found[0].data.spans[0].outputs == "WHY! größe"
    assert tracked.search_traces(locations=[experiment], filter_string="tags.tenant = 'b'", return_type="list") == []


def test_a_failure_is_seen(tracked, experiment):
    with pytest.raises(ZeroDivisionError), tracked.start_span("broken"):
        _ = 1 / 0
    found = tracked.search_traces(locations=[experiment], filter_string="status = 'ERROR'", return_type="list")
    assert found[0].data.spans[0].events[0].name == "exception"


def test_tags_are_set_and_deleted(tracked, trace_id):
    tracked.set_trace_tag(trace_id, "reviewed", "yes")
    assert tracked.get_trace(trace_id).info.tags["reviewed"] == "yes"
    tracked.delete_trace_tag(trace_id, "reviewed")
    assert "reviewed" not in tracked.get_trace(trace_id).info.tags


def test_feedback_and_expectations_are_kept_changed_and_deleted(tracked, trace_id):
    source = tracked.entities.AssessmentSource(source_type="HUMAN", source_id="me")
    given = tracked.log_feedback(trace_id=trace_id, name="helpful", value=False, rationale="too short", source=source)
    tracked.log_expectation(trace_id=trace_id, name="answer", value={"text": "WHY"}, source=source)
    found = tracked.get_assessment(trace_id, given.assessment_id)
    assert (found.name, found.value, found.rationale, found.source.source_id) == ("helpful", False, "too short", "me")
    changed = tracked.entities.Feedback(name="helpful", value=True, source=source)
    tracked.update_assessment(trace_id, given.assessment_id, changed)
    assert tracked.get_assessment(trace_id, given.assessment_id).value is True
    tracked.delete_assessment(trace_id, given.assessment_id)
    names = [assessment.name for assessment in tracked.get_trace(trace_id).info.assessments]
    assert names == ["answer"]


def test_traces_belong_to_runs(tracked, experiment, trace_id):
    with tracked.start_run(experiment_id=experiment) as run:
        pass
    tracked.MlflowClient().link_traces_to_run([trace_id], run.info.run_id)
    found = tracked.search_traces(locations=[experiment], run_id=run.info.run_id, return_type="list")
    assert [trace.info.trace_id for trace in found] == [trace_id]


def test_traces_are_deleted(tracked, experiment):
    with tracked.start_span("short"):
        pass
    short = tracked.get_last_active_trace_id()
    assert tracked.MlflowClient().delete_traces(experiment, trace_ids=[short]) == 1
    left = tracked.search_traces(locations=[experiment], return_type="list")
    assert short not in [trace.info.trace_id for trace in left]


def test_tables_of_traces_are_refused_so_that_clients_fall_back(workspace):
    answer = workspace.http.post("/api/4.0/mlflow/traces/search-long-running", json={})
    assert answer.status_code == 404 and answer.json()["error_code"] == "ENDPOINT_NOT_FOUND"


def test_credentials_are_for_traces_that_exist(workspace):
    for trace_id in ("tr-0", "get", "..", "m-1"):
        for way in ("upload", "download"):
            answer = workspace.http.get(f"/api/2.0/mlflow/traces/{trace_id}/credentials-for-data-{way}")
            assert answer.status_code in (404, 501)
