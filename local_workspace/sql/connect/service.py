"""What is done with a plan before Sail sees it: SQL, new tables and namespaces are the lake's own work."""

from collections.abc import Iterator
from functools import partial

from pyspark.sql.connect.proto import base_pb2

from local_workspace.sql.connect import answers, frames, namespaces, statements
from local_workspace.sql.connect.plans import confine, named_tables
from local_workspace.sql.connect.sessions import ClientSessions, Key
from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.sail import Sail
from local_workspace.sql.lake.volumes import local_path

Request = base_pb2.ExecutePlanRequest | base_pb2.AnalyzePlanRequest


def key_of(request: Request | base_pb2.ReleaseSessionRequest) -> Key:
    """The session a request belongs to."""
    return request.user_context.user_id, request.session_id


class Connect:
    """The lake behind Spark Connect."""

    def __init__(self, lake: Lake, sail: Sail):
        self._lake = lake
        self._sessions = ClientSessions(sail)
        self._local = partial(local_path, lake.catalog)

    def execute(self, request: base_pb2.ExecutePlanRequest, user: str) -> Iterator[bytes] | None:
        """The answer to a plan, or None when it is Sail's to run, as it then is in `request`. Raises SqlError."""
        self.settle(request, user)
        client = self._sessions.get(key_of(request))
        command = request.plan.command
        if request.plan.HasField("root"):
            if not request.plan.root.HasField("catalog"):
                return None
            answer = namespaces.answer(self._lake, client, request.plan.root.catalog)
        elif command.HasField("sql_command"):
            answer = statements.answer(self._lake, client, user, command.sql_command)
        elif command.HasField("write_operation"):
            answer = frames.save(self._lake, client, command.write_operation)
        elif command.HasField("write_operation_v2"):
            answer = frames.write_to(self._lake, client, command.write_operation_v2)
        else:
            return None
        return answers.responses(request, answer) if answer is not None else None

    def settle(self, request: Request, user: str) -> None:
        """Put views in the place of their names and files where they lie. Raises SqlError."""
        confine(request, self._local)
        for relation, name in named_tables(request):
            last = name.replace("`", "").rpartition(".")[2].lower()
            if last in self._lake.names or "information_schema" in name.lower():
                client = self._sessions.get(key_of(request))
                relation.sql.query = statements.settled(self._lake, client, user, f"SELECT * FROM {name}")

    def release(self, request: base_pb2.ReleaseSessionRequest) -> None:
        """Forget a session that its client ends."""
        self._sessions.release(key_of(request))
