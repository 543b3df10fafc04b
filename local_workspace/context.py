"""The composition root: one workspace's services, each built once and only here."""

import json
import secrets
from functools import cached_property

from local_workspace.alarm import Alarm
from local_workspace.alerts.service import Alerts
from local_workspace.alerts.store import AlertStore
from local_workspace.apps.service import Apps
from local_workspace.auth import Auth
from local_workspace.compute.service import Compute
from local_workspace.config import Config
from local_workspace.dashboards.service import Dashboards
from local_workspace.dashboards.store import DashboardStore
from local_workspace.dbfs.store import Dbfs
from local_workspace.engine import Engine
from local_workspace.faults.connections import Connections
from local_workspace.faults.rules import Faults
from local_workspace.files.store import VolumeFiles
from local_workspace.identity.directory import Directory
from local_workspace.identity.tokens import PersonalTokens
from local_workspace.jobs.service import Jobs
from local_workspace.jobs.store import JobStore
from local_workspace.jobs.triggers import Triggers
from local_workspace.mlflow.tracking import Tracking
from local_workspace.models.store import RegisteredModels
from local_workspace.prompts.store import Prompts
from local_workspace.queries.store import SavedQueries
from local_workspace.secrets.references import References
from local_workspace.secrets.store import Secrets
from local_workspace.serving.configs import Configs
from local_workspace.serving.gateway.records import Records
from local_workspace.serving.gateway.tables import Tables
from local_workspace.serving.models import Models
from local_workspace.serving.service import Serving
from local_workspace.serving.store import Endpoints
from local_workspace.sql.ask import Asking
from local_workspace.sql.spark import SparkProxy
from local_workspace.sql.statements import Statements
from local_workspace.sql.store import StatementStore
from local_workspace.state import State
from local_workspace.unity_catalog.store import CatalogStore
from local_workspace.vector_search.service import VectorSearch
from local_workspace.vector_search.store import VectorStore
from local_workspace.vector_search.syncs import Syncs
from local_workspace.warehouses.store import Warehouses
from local_workspace.weights import Weights
from local_workspace.workspace.store import WorkspaceObjects
from local_workspace.zerobus.door import Door


class LocalWorkspace:
    """The services of one workspace. `host` is known once the server has its port."""

    def __init__(self, config: Config, port: int):
        self.config = config
        self.host = f"http://127.0.0.1:{port}"
        config.root.mkdir(parents=True, exist_ok=True)
        identity = self._identity()
        self.token: str = identity["token"]
        self.admin_token: str = identity["admin_token"]
        self.workspace_id: str = identity["workspace_id"]

    def _identity(self) -> dict[str, str]:
        """Tokens and id, made once per root; readable by the owner alone."""
        path = self.config.root / "identity.json"
        made = {
            "token": "dapi" + secrets.token_hex(16),
            "admin_token": "dadm" + secrets.token_hex(16),
            "workspace_id": str(secrets.randbelow(10**15) + 10**15),
        }
        identity = made | (json.loads(path.read_text()) if path.exists() else {})
        fresh = path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(identity))
        fresh.replace(path)
        return identity

    @cached_property
    def state(self) -> State:
        """What survives a restart, but for tables, files and vectors."""
        return State(self.config.root / "state.db")

    @cached_property
    def auth(self) -> Auth:
        """Principals and tokens."""
        return Auth(self.state, self.token)

    @cached_property
    def directory(self) -> Directory:
        """Users, service principals and groups."""
        return Directory(self.state, self.auth)

    @cached_property
    def personal_tokens(self) -> PersonalTokens:
        """Personal access tokens."""
        return PersonalTokens(self.state, self.auth)

    @cached_property
    def catalog(self) -> CatalogStore:
        """Catalogs, schemas, volumes, tables and grants."""
        return CatalogStore(self.state, self.config, self.auth.OWNER)

    @cached_property
    def files(self) -> VolumeFiles:
        """The files in volumes."""
        return VolumeFiles(self.catalog.volume_path, self.config.folder("uploads"))

    @cached_property
    def dbfs(self) -> Dbfs:
        """The workspace's own file system."""
        return Dbfs(self.config.folder("dbfs"), self.config.folder("dbfs-uploads"))

    @cached_property
    def models(self) -> RegisteredModels:
        """The registered models of Unity Catalog."""
        return RegisteredModels(self.state, self.config, self.catalog)

    @cached_property
    def prompts(self) -> Prompts:
        """The prompt registry of Unity Catalog."""
        return Prompts(self.state, self.catalog)

    @cached_property
    def tracking(self) -> Tracking:
        """MLflow's experiments, runs, logged models and traces."""
        return Tracking(self.config)

    @cached_property
    def objects(self) -> WorkspaceObjects:
        """The workspace tree: notebooks, files, directories."""
        return WorkspaceObjects(self.state, self.config.folder("workspace"), self.auth.OWNER)

    @cached_property
    def secrets(self) -> Secrets:
        """Secret scopes."""
        return Secrets(self.state)

    @cached_property
    def serving(self) -> Serving:
        """Serving endpoints and the models behind them."""
        weights = Weights(self.config.weights or self.config.folder("weights"))
        endpoints = Endpoints(self.state)
        models = Models(self.config, weights, References(self.secrets), self.models)
        configs = Configs(endpoints, models, self.host)
        tables = Tables(self.catalog, self.asking, self.auth.OWNER)
        records = Records(self.state, self.lake)
        return Serving(endpoints, models, configs, tables, records, self.config.scale_to_zero_seconds)

    @cached_property
    def apps(self) -> Apps:
        """Apps as child processes behind their own addresses."""
        folder = self.config.folder("apps")
        return Apps(self.state, folder, self.auth, self.objects, self.secrets, self.host, self.workspace_id)

    @cached_property
    def lake(self) -> Engine:
        """The SQL engine: Sail and delta-rs in one child process."""
        return Engine(
            "lake",
            "local_workspace.sql.lake",
            self.config.folder("logs") / "lake.log",
            environment=lambda: {
                "LOCAL_WORKSPACE_HOST": self.host,
                "LOCAL_WORKSPACE_TOKEN": self.token,
                "RUST_LOG": "warn",
                "SPARK_CONNECT_LOG_LEVEL": "CRITICAL",
            },
        )

    @cached_property
    def warehouses(self) -> Warehouses:
        """SQL warehouses."""
        return Warehouses(self.state, self.auth.OWNER)

    @cached_property
    def queries(self) -> SavedQueries:
        """Saved queries."""
        return SavedQueries(self.state)

    @cached_property
    def statement_store(self) -> StatementStore:
        """Statements and their results."""
        return StatementStore(self.state, self.config.folder("statements"))

    @cached_property
    def statements(self) -> Statements:
        """Statement execution."""
        return Statements(self.statement_store, self.lake)

    @cached_property
    def spark(self) -> SparkProxy:
        """The Spark Connect address."""
        return SparkProxy(self.config, self.token, self.lake)

    @cached_property
    def vectors(self) -> VectorSearch:
        """Vector search endpoints and indexes."""
        folder = self.config.folder("vectors")
        log = self.config.folder("logs") / "vectors.log"
        environment = {"LOCAL_WORKSPACE_HOST": self.host, "LOCAL_WORKSPACE_TOKEN": self.token, "LANCE_LOG": "error"}
        # Rows come as bodies of megabytes: what is freed goes back at once, or it adds up to a gigabyte.
        environment |= {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "1048576"}
        module = "local_workspace.vector_search.engine"
        engine = Engine("vectors", module, log, lambda: [str(folder)], lambda: environment)
        return VectorSearch(VectorStore(self.state), Syncs(self.state), engine, self.catalog, self.serving)

    @cached_property
    def faults(self) -> Faults:
        """The faults on purpose."""
        return Faults()

    @cached_property
    def connections(self) -> Connections:
        """The connections of the REST API's server."""
        return Connections()

    @cached_property
    def zerobus(self) -> Door:
        """The Zerobus address."""
        engine = Engine(
            "zerobus",
            "local_workspace.zerobus.engine",
            self.config.folder("logs") / "zerobus.log",
            environment=lambda: {"LOCAL_WORKSPACE_HOST": self.host, "LOCAL_WORKSPACE_TOKEN": self.token},
        )
        return Door(self.config.folder() / "zerobus_port", engine, int(self.host.rsplit(":", 1)[1]))

    @cached_property
    def compute(self) -> Compute:
        """Clusters and the execution contexts on them."""

        def environment(token: str) -> dict[str, str]:
            return {"DATABRICKS_HOST": self.host, "SPARK_REMOTE": self.spark.remote.replace(self.token, token)}

        return Compute(self.state, self.config.folder("contexts"), self.auth, References(self.secrets), environment)

    @cached_property
    def asking(self) -> Asking:
        """Statements for the workspace's own services."""
        return Asking(self.statements, self.statement_store)

    @cached_property
    def alerts(self) -> Alerts:
        """Alerts on the results of queries."""
        return Alerts(AlertStore(self.state), self.asking)

    @cached_property
    def dashboards(self) -> Dashboards:
        """Lakeview dashboards."""
        return Dashboards(DashboardStore(self.state), self.asking)

    @cached_property
    def jobs(self) -> Jobs:
        """Jobs and their runs, whose tasks are child processes."""
        return Jobs(self, JobStore(self.state), self.config.folder("jobs"))

    @cached_property
    def triggers(self) -> Alarm[int]:
        """What starts jobs by itself: schedules and the like."""
        triggers = Triggers(self.jobs, self.files.locate).alarm
        self.jobs.on_over = triggers.changed
        return triggers

    def address(self) -> dict[str, str]:
        """What a client needs to connect; printed when the workspace is ready."""
        return {"host": self.host, "token": self.token, "spark_remote": self.spark.remote, "zerobus": self.zerobus.url}

    async def start(self) -> None:
        """Bring back what was running when the workspace stopped."""
        await self.spark.start()
        await self.zerobus.start()
        await self.compute.start()
        await self.apps.start()
        await self.jobs.start()
        self.triggers.start()
        self.serving.resume()
        self.vectors.resume()
        self.alerts.start()
        self.dashboards.alarm.start()

    async def stop(self) -> None:
        """Stop every child process and close the state."""
        await self.triggers.stop()
        await self.jobs.stop()
        await self.alerts.stop()
        await self.dashboards.alarm.stop()
        await self.compute.stop()
        await self.apps.stop()
        await self.zerobus.stop()
        await self.spark.stop()
        await self.statements.stop()
        await self.serving.records.stop()
        await self.lake.stop()
        await self.serving.stop()
        await self.vectors.stop()
        await self.tracking.engine.stop()
        self.state.close()
