"""Every kind of task, run for real."""

import base64
import io
import json
import zipfile
from pathlib import Path

import httpx
import pytest
from databricks.sdk.errors import BadRequest
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.compute import Environment, Library, PythonPyPiLibrary
from databricks.sdk.service.jobs import (
    JobEnvironment,
    NotebookTask,
    PythonWheelTask,
    Run,
    RunType,
    SparkPythonTask,
    SqlTask,
    SqlTaskFile,
    SubmitTask,
    Task,
)
from databricks.sdk.service.workspace import ImportFormat, Language

from local_workspace.tests.conftest import Running
from local_workspace.tests.jobs_client import finished, notebook, output, results, submit, task

WAREHOUSE = "10ca1000000000a1"


def run_task(workspace: Running, made: SubmitTask, **settings) -> Run:
    run_id = workspace.client.jobs.submit(run_name="kind", tasks=[made], **settings).run_id
    return finished(workspace.client, run_id)


def upload(workspace: Running, path: str, content: bytes) -> str:
    workspace.client.workspace.upload(path, content, format=ImportFormat.AUTO, overwrite=True)
    return path


def wheel(version: str) -> bytes:
    """A wheel with one function, that says its version and its arguments."""
    content = io.BytesIO()
    info = f"greeter-{version}.dist-info"
    with zipfile.ZipFile(content, "w") as archive:
        code = f"import sys\ndef main():\n    print('greeter {version}', sys.argv[1:])\n"
        archive.writestr("greeter/__init__.py", code)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: greeter\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", "[console_scripts]\ngreet = greeter:main\n")
        archive.writestr(f"{info}/RECORD", "greeter/__init__.py,,\n")
    return content.getvalue()


def test_a_notebook_writes_a_delta_table_with_spark(workspace: Running):
    client = workspace.client
    run = submit(
        client,
        "spark.sql('CREATE TABLE IF NOT EXISTS main.default.from_job (n INT, name STRING) USING DELTA')",
        "frame = spark.createDataFrame([(1, 'ä'), (2, 'b')], 'n INT, name STRING')",
        "frame.write.mode('append').saveAsTable('main.default.from_job')",
        "# MAGIC %sql\n# MAGIC SELECT count(*) AS n FROM main.default.from_job WHERE n <= :most",
        "display(spark.table('main.default.from_job').orderBy('n'))",
        "from pyspark.sql.functions import udf\n@udf('int')\ndef double(n): return 2 * n",
        "doubled = [row[0] for row in spark.table('main.default.from_job').select(double('n')).collect()]",
        "dbutils.notebook.exit(f\"{_sqldf.first()['n']} {sorted(doubled)}\")",
        most="1",
    )
    assert output(client, run) == "1 [2, 4]"
    rows = client.statement_execution.execute_statement(
        "SELECT name FROM main.default.from_job ORDER BY n", WAREHOUSE
    ).result.data_array
    assert rows == [["ä"], ["b"]]
    assert "&lt;td&gt;ä&lt;/td&gt;" in client.jobs.export_run(run.tasks[0].run_id).views[0].content


def test_a_script_finds_its_arguments_and_what_lies_beside_it(workspace: Running):
    upload(workspace, "/Shared/beside_script.py", b"ANSWER = 42\n")
    code = b"import sys\nfrom beside_script import ANSWER\nprint(ANSWER, sys.argv[1:], __name__)\nsys.exit(0)\n"
    path = upload(workspace, "/Shared/script.py", code)
    run = run_task(workspace, SubmitTask("s", spark_python_task=SparkPythonTask(path, parameters=["a", "ü"])))
    assert run.state.result_state.value == "SUCCESS"
    assert workspace.client.jobs.get_run_output(run.tasks[0].run_id).logs == "42 ['a', 'ü'] __main__\n"
    failing = upload(workspace, "/Shared/failing.py", b"import sys\nprint('before')\nsys.exit(3)\n")
    run = run_task(workspace, SubmitTask("s", spark_python_task=SparkPythonTask(f"/Workspace{failing}")))
    found = workspace.client.jobs.get_run_output(run.tasks[0].run_id)
    assert run.state.result_state.value == "FAILED"
    assert found.error == "RuntimeError: SystemExit: 3"
    assert found.logs.startswith("before\n")


def test_a_task_has_the_variables_of_the_cluster_it_names(workspace: Running):
    client = workspace.client
    path = upload(workspace, "/Shared/flavour.py", b"import os\nprint(os.environ['FLAVOUR'])")
    made = client.clusters.create(spark_version="16.4.x-scala2.12", num_workers=0, spark_env_vars={"FLAVOUR": "mint"})
    run = run_task(
        workspace, SubmitTask("t", existing_cluster_id=made.cluster_id, spark_python_task=SparkPythonTask(path))
    )
    assert results(run) == {"t": "SUCCESS"}
    found = client.jobs.get_run_output(run.tasks[0].run_id)
    assert found.logs == "mint\n"
    assert (found.metadata.run_name, found.metadata.run_type) == ("t", RunType.SUBMIT_RUN)
    client.clusters.permanent_delete(made.cluster_id)
    run = run_task(
        workspace, SubmitTask("t", existing_cluster_id=made.cluster_id, spark_python_task=SparkPythonTask(path))
    )
    assert results(run) == {"t": "FAILED"}
    assert "does not exist" in run.tasks[0].state.state_message


def test_a_script_runs_from_dbfs_and_from_a_volume(workspace: Running):
    client = workspace.client
    with client.dbfs.open("/FileStore/from_dbfs.py", write=True, overwrite=True) as file:
        file.write(b"print('from dbfs')")
    run = run_task(workspace, SubmitTask("s", spark_python_task=SparkPythonTask("dbfs:/FileStore/from_dbfs.py")))
    assert client.jobs.get_run_output(run.tasks[0].run_id).logs == "from dbfs\n"
    gone = run_task(workspace, SubmitTask("s", spark_python_task=SparkPythonTask("/Volumes/main/default/no/x.py")))
    assert gone.state.life_cycle_state.value == "INTERNAL_ERROR"
    assert "no" in gone.tasks[0].state.state_message
    assert gone.tasks[0].status.termination_details.code.value == "RESOURCE_NOT_FOUND"


def test_a_wheel_is_installed_for_its_task_or_once_for_an_environment(workspace: Running):
    client = workspace.client
    whl = "/Shared/greeter-1.0-py3-none-any.whl"
    upload(workspace, whl, wheel("1.0"))
    upload(workspace, whl.replace("1.0", "2.0"), wheel("2.0"))
    greet = PythonWheelTask("greeter", "greet", named_parameters={"name": "Ada"})
    run = run_task(workspace, SubmitTask("w", python_wheel_task=greet, libraries=[Library(whl=f"/Workspace{whl}")]))
    assert client.jobs.get_run_output(run.tasks[0].run_id).logs == "greeter 1.0 ['--name=Ada']\n"
    spec = Environment(environment_version="2", dependencies=[f"/Workspace{whl.replace('1.0', '2.0')}"])
    environments = [JobEnvironment("default", spec)]
    by_function = PythonWheelTask("greeter", "main", parameters=["x"])
    for _ in range(2):
        made = SubmitTask("w", python_wheel_task=by_function, environment_key="default")
        run = run_task(workspace, made, environments=environments)
        assert client.jobs.get_run_output(run.tasks[0].run_id).logs == "greeter 2.0 ['x']\n"
    assert len(list((workspace.root / "jobs" / "environments").iterdir())) == 1


def test_what_the_workspaces_python_has_is_not_installed_again(workspace: Running):
    client = workspace.client
    client.workspace.upload("/Shared/needs.txt", b"httpx>=0.28\n", format=ImportFormat.RAW, overwrite=True)
    before = set((workspace.root / "jobs" / "environments").glob("*"))
    path = notebook(client, "needs", "import httpx", "dbutils.notebook.exit(httpx.__file__)")
    spec = Environment(environment_version="4", dependencies=["pyyaml>=6", "-r /Workspace/Shared/needs.txt"])
    made = SubmitTask("n", notebook_task=NotebookTask(path), environment_key="default")
    run = run_task(workspace, made, environments=[JobEnvironment("default", spec)])
    assert Path(output(client, run.tasks[0])) == Path(httpx.__file__)
    assert set((workspace.root / "jobs" / "environments").glob("*")) == before


def test_a_package_that_cannot_be_installed_says_so(workspace: Running):
    nothing = PythonPyPiLibrary(package="no such package!")
    work = SubmitTask("w", python_wheel_task=PythonWheelTask("x", "y"), libraries=[Library(pypi=nothing)])
    run = run_task(workspace, work)
    details = run.tasks[0].status.termination_details
    assert (details.code.value, run.state.result_state.value) == ("LIBRARY_INSTALLATION_ERROR", "FAILED")
    assert "Library installation failed" in details.message


def test_sql_files_run_statement_by_statement(workspace: Running):
    create = b"CREATE TABLE IF NOT EXISTS main.default.sql_task (n INT) USING DELTA;\n"
    text = create + b"SELECT CAST(:n AS INT) + 1 AS n -- ; not an end\n"
    path = upload(workspace, "/Shared/query.sql", text)
    sql = SqlTask(warehouse_id=WAREHOUSE, file=SqlTaskFile(path=path), parameters={"n": "41"})
    check = {"condition_task": {"op": "EQUAL_TO", "left": "{{tasks.sql.output.first_row.n}}", "right": "42"}}
    after = {"task_key": "check", "depends_on": [{"task_key": "sql"}]} | check
    tasks = [Task("sql", sql_task=sql), Task.from_dict(after)]
    job_id = workspace.client.jobs.create(name="sql", tasks=tasks).job_id
    run = finished(workspace.client, workspace.client.jobs.run_now(job_id).run_id)
    assert results(run) == {"sql": "SUCCESS", "check": "SUCCESS"}
    found = workspace.client.jobs.get_run_output(run.tasks[0].run_id).sql_output.query_output
    assert len(found.sql_statements) == 2
    assert found.query_text == text.decode()
    last = workspace.client.statement_execution.get_statement(found.sql_statements[1].lookup_key)
    assert last.status.state.value == "SUCCEEDED"
    assert run.tasks[1].condition_task.outcome == "true"


def test_plain_python_sees_volumes_and_workspace_files(workspace: Running):
    client = workspace.client
    client.volumes.create("main", "default", "plain", volume_type=VolumeType.MANAGED)
    upload(workspace, "/Shared/beside.csv", b"a,b\n1,2\n")
    client.workspace.mkdirs("/Shared/lib")
    upload(workspace, "/Shared/lib/in_workspace.py", b"X = 1\n")
    run = submit(
        client,
        "import os, shutil\nfrom pathlib import Path\nfolder = Path('/Volumes/main/Default/plain/deep/er')",
        "folder.mkdir(parents=True)\n(folder / 'x.txt').write_text('ü')",
        "shutil.copy(folder / 'x.txt', '/Volumes/main/default/plain/y.txt')\nos.rename(folder, folder.parent / 'done')",
        "import pandas as pd\nframe = pd.read_csv('/Workspace/Shared/beside.csv')\nopen('beside.csv').close()",
        "import sys\nsys.path.append('/Workspace/Shared/lib')\nimport in_workspace\nassert in_workspace.X == 1",
        "found = sorted(str(p) for p in Path('/Volumes/main/default/plain').rglob('*.txt'))",
        "dbutils.notebook.exit(f\"{found} {frame.b[0]} {os.path.exists('/Volumes/main/default/none')}\")",
    )
    assert output(client, run) == (
        "['/Volumes/main/default/plain/deep/done/x.txt', '/Volumes/main/default/plain/y.txt'] 2 False"
    )
    assert client.files.download("/Volumes/main/default/plain/deep/done/x.txt").contents.read() == "ü".encode()


def test_a_job_runs_another_job(workspace: Running):
    client = workspace.client
    inner = task(client, "inner", "dbutils.notebook.exit(dbutils.widgets.get('p'))")
    parameters = [{"name": "p", "default": "default"}]
    body = {"name": "inner", "tasks": [inner], "parameters": parameters}
    inner_id = workspace.http.post("/api/2.2/jobs/create", json=body).json()["job_id"]
    outer = {"task_key": "outer", "run_job_task": {"job_id": inner_id, "job_parameters": {"p": "given"}}}
    job_id = client.jobs.create(name="outer", tasks=[Task.from_dict(outer)]).job_id
    run = finished(client, client.jobs.run_now(job_id).run_id)
    child = client.jobs.get_run_output(run.tasks[0].run_id).run_job_output.run_id
    assert output(client, client.jobs.get_run(child)) == "given"
    assert client.jobs.get_run(child).trigger.value == "RUN_JOB_TASK"
    itself = {"task_key": "again", "run_job_task": {"job_id": job_id}}
    client.jobs.update(job_id, new_settings=client.jobs.get(job_id).settings.from_dict({"tasks": [itself]}))
    client.jobs.update(job_id, new_settings=client.jobs.get(job_id).settings.from_dict({"max_concurrent_runs": 10}))
    assert finished(client, client.jobs.run_now(job_id).run_id).state.result_state.value == "FAILED"


def test_for_each_runs_its_task_for_every_input(workspace: Running):
    client = workspace.client
    code = (
        "name, n = dbutils.widgets.get('name'), dbutils.widgets.get('n')",
        "dbutils.notebook.exit(f'{name}={1 / len(n)}')",
    )
    path = notebook(client, "each", *code)
    inputs = [{"name": "a", "n": "1"}, {"name": "b", "n": ""}, {"name": "c", "n": "22"}]
    values = {"name": "{{input.name}}", "n": "{{input.n}}"}
    nested = {"task_key": "one", "notebook_task": {"notebook_path": path, "base_parameters": values}}
    each = {"task_key": "all", "for_each_task": {"inputs": json.dumps(inputs), "concurrency": 2, "task": nested}}
    job_id = client.jobs.create(name="each", tasks=[Task.from_dict(each)]).job_id
    run = finished(client, client.jobs.run_now(job_id).run_id)
    assert run.state.result_state.value == "FAILED"
    stats = run.tasks[0].for_each_task.stats.task_run_stats
    assert (stats.total_iterations, stats.succeeded_iterations, stats.failed_iterations) == (3, 2, 1)
    iterations = client.jobs.get_run(run.tasks[0].run_id).iterations
    assert [output(client, item) for item in iterations] == ["a=1.0", "ZeroDivisionError: division by zero", "c=0.5"]


def test_a_notebook_runs_others_and_includes_others(workspace: Running):
    client = workspace.client
    notebook(client, "child", "n = int(dbutils.widgets.get('n'))", "dbutils.notebook.exit(str(n * 2))")
    notebook(client, "library", "def double(n): return n * 2", "size = dbutils.widgets.get('size')")
    notebook(
        client,
        "sql_library",
        "CREATE OR REPLACE TEMP VIEW v AS SELECT 1 AS one;\nSELECT one + 1 AS two FROM v",
        language=Language.SQL,
    )
    run = submit(
        client,
        '%run ./library $size="7"',
        "%run /Shared/sql_library",
        "r = dbutils.notebook.run('./child', 60, {'n': double(4)})",
        "try: dbutils.notebook.run('child', 60, {'n': 'none'})\nexcept Exception as e: failed = type(e).__name__",
        "dbutils.notebook.exit(f'{r} {size} {failed} {_sqldf.first().two}')",
    )
    assert output(client, run) == "16 7 WorkflowException 2"
    assert run.run_type == RunType.SUBMIT_RUN


def test_secrets_and_tokens_are_not_shown(workspace: Running):
    client = workspace.client
    client.secrets.create_scope("job-scope")
    client.secrets.put_secret("job-scope", "key", string_value="hunter-two-hunter")
    run = submit(
        client,
        "import os\nsecret = dbutils.secrets.get('job-scope', 'key')",
        "print(secret, os.environ['DATABRICKS_TOKEN'])",
        "%sh echo $DATABRICKS_TOKEN",
        "import subprocess\nsubprocess.run(['sh', '-c', 'echo past Python: $DATABRICKS_TOKEN'])",
        "raise ValueError(f'bad {secret} ' + secret[::-1])",
    )
    found = client.jobs.get_run_output(run.tasks[0].run_id)
    assert found.error == "ValueError: bad [REDACTED] " + "hunter-two-hunter"[::-1]
    folder = workspace.root / "jobs" / "runs" / str(run.tasks[0].run_id)
    kept = "".join(file.read_text() for file in folder.iterdir() if file.is_file() and file.name != "source")
    assert kept.count("[REDACTED]") > 3
    assert "past Python: [REDACTED]*" in kept
    assert "hunter-two-hunter" not in kept
    assert "dapi" not in kept


def test_a_run_has_a_token_of_its_own_while_it_runs(workspace: Running):
    client = workspace.client
    run = submit(
        client,
        "from databricks.sdk import WorkspaceClient\nw = WorkspaceClient()",
        "import base64, os\nme = w.current_user.me().user_name",
        "dbutils.notebook.exit(me + ' ' + base64.b64encode(os.environ['DATABRICKS_TOKEN'].encode()).decode())",
    )
    user, token = output(client, run).split()
    assert user == client.current_user.me().user_name
    own = base64.b64decode(token).decode()
    assert own != workspace.token
    answer = workspace.http.get("/api/2.0/preview/scim/v2/Me", headers={"Authorization": f"Bearer {own}"})
    assert answer.status_code == 401


def test_outputs_of_several_tasks_are_asked_for_one_by_one(workspace: Running):
    client = workspace.client
    same = {"condition_task": {"op": "EQUAL_TO", "left": "1", "right": "1"}}
    tasks = [Task.from_dict({"task_key": key} | same) for key in "ab"]
    run = finished(client, client.jobs.run_now(client.jobs.create(name="two", tasks=tasks).job_id).run_id)
    with pytest.raises(BadRequest, match="multiple tasks"):
        client.jobs.get_run_output(run.run_id)
