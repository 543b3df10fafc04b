"""What is spoken beside the REST API, and by which genuine client: pure data for the parity report, held by a test."""

from typing import NamedTuple


class Client(NamedTuple):
    """A way into the workspace, the client it is tested with, and a test that uses it."""

    road: str
    client: str
    difference: str
    test: str


CLIENTS = [
    Client(
        "REST, token or OAuth of a service principal",
        "databricks-sdk",
        "",
        "test_identity.py::test_a_service_principal_signs_in_with_its_secret",
    ),
    Client(
        "Spark Connect",
        "pyspark-client 4.2",
        "the token is a parameter of the address: PySpark sends its own `token` only with TLS or to localhost",
        "test_spark.py::test_a_session_needs_a_token_of_the_workspace",
    ),
    Client(
        "Spark Connect",
        "databricks-connect 16.1",
        "by SPARK_REMOTE; a host and a cluster would need TLS",
        "test_databricks_connect.py::test_the_genuine_client_works_by_spark_remote",
    ),
    Client("Spark SQL from a session", "pyspark-client 4.2", "", "test_spark_sql.py::test_commands_of_the_lake"),
    Client("dbutils outside a cluster", "databricks-sdk", "", "test_dbutils.py::test_files"),
    Client(
        "dbutils, display and magics in notebooks",
        "the process of a task",
        "Python and SQL cells; Scala and R are refused",
        "test_runtime.py::test_a_notebook_leaves_a_record_of_everything_it_shows",
    ),
    Client(
        "Zerobus gRPC: EphemeralStream",
        "databricks-zerobus-ingest-sdk 1.10",
        "JSON and protobuf records; Arrow Flight is refused",
        "test_zerobus_grpc.py::test_a_service_principal_ingests_records",
    ),
    Client("OTLP over gRPC", "opentelemetry-exporter-otlp-proto-grpc", "", "test_otlp_grpc.py::test_spans_arrive"),
    Client(
        "OTLP over HTTP",
        "opentelemetry-exporter-otlp-proto-http",
        "",
        "test_zerobus.py::test_spans_arrive_with_all_they_carry",
    ),
    Client(
        "MLflow, tracking `databricks`",
        "mlflow 3.17",
        "experiments are not listed in the workspace tree",
        "test_mlflow.py::test_a_run_keeps_parameters_metrics_and_tags",
    ),
    Client(
        "MLflow, registry `databricks-uc`",
        "mlflow 3.17",
        "",
        "test_models.py::test_a_fresh_process_loads_it_by_its_alias",
    ),
    Client("MLflow, prompts", "mlflow 3.17", "", "test_prompts.py::test_a_prompt_is_registered_and_loaded"),
    Client("OpenAI", "openai", "", "test_serving_openai.py::test_a_response_is_made_of_a_chat"),
    Client("Vector search", "databricks-ai-search 0.81", "", "test_vector_search.py::test_an_index_by_both_dialects"),
]
REFUSED_ROADS = {
    "JDBC, ODBC, databricks-sql-connector": "they speak Thrift; use the statement API",
    "Delta Sharing, Lakebase (Postgres), Genie, Lakeflow pipelines": "no operation of theirs is here",
}
