"""The lake's view of Unity Catalog: calls to the workspace that started it."""

from typing import Any
from urllib.parse import quote

import httpx

from local_workspace.sql.lake.errors import SqlError, not_a_table, table_not_found, unsupported

CONDITIONS = {
    "CATALOG_DOES_NOT_EXIST": ("NO_SUCH_CATALOG_EXCEPTION", "42704"),
    "SCHEMA_DOES_NOT_EXIST": ("SCHEMA_NOT_FOUND", "42704"),
    "VOLUME_DOES_NOT_EXIST": ("VOLUME_DOES_NOT_EXIST", "42704"),
    "TABLE_DOES_NOT_EXIST": ("TABLE_OR_VIEW_NOT_FOUND", "42P01"),
    "FUNCTION_DOES_NOT_EXIST": ("UNRESOLVED_ROUTINE", "42883"),
    "FUNCTION_ALREADY_EXISTS": ("ROUTINE_ALREADY_EXISTS", "42723"),
    "EXPECT_VIEW_NOT_TABLE": ("EXPECT_VIEW_NOT_TABLE.NO_ALTERNATIVE", "42809"),
    "CATALOG_ALREADY_EXISTS": ("CATALOG_ALREADY_EXISTS", "42710"),
    "SCHEMA_ALREADY_EXISTS": ("SCHEMA_ALREADY_EXISTS", "42P06"),
    "VOLUME_ALREADY_EXISTS": ("VOLUME_ALREADY_EXISTS", "42710"),
    "TABLE_ALREADY_EXISTS": ("TABLE_OR_VIEW_ALREADY_EXISTS", "42P07"),
    "SCHEMA_NOT_EMPTY": ("SCHEMA_NOT_EMPTY", "2BP01"),
    "CATALOG_NOT_EMPTY": ("CATALOG_NOT_EMPTY", "2BP01"),
}


class Catalog:
    """Unity Catalog over REST; its errors come as SqlError."""

    def __init__(self, host: str, token: str):
        self.host, self.token = host, token
        self._http = httpx.Client(base_url=host, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def call(self, method: str, *path: str, **options: Any) -> dict[str, Any]:
        """One call to the public API, such as `call("GET", "schemas", "main.default")`. Raises SqlError."""
        return self._call(method, "/api/2.1/unity-catalog", path, options)

    def engine(self, method: str, *path: str, **options: Any) -> dict[str, Any]:
        """One call to the engine's own dialect, where tables can be made. Raises SqlError."""
        return self._call(method, "/engine/unity-catalog", path, options)

    def _call(self, method: str, prefix: str, path: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
        url = "/".join([prefix, *(quote(part, safe="") for part in path)])
        response = self._http.request(method, url, **options)
        if response.is_success:
            return response.json()
        error = response.json()
        code, message = error["error_code"], error["message"]
        if code == "TABLE_DOES_NOT_EXIST":
            raise table_not_found(path[-1])
        if response.status_code == 501:
            raise unsupported(message)
        condition, sqlstate = CONDITIONS.get(code, (code, "42000"))
        raise SqlError(condition, message, sqlstate)

    def table(self, full_name: str) -> dict[str, Any]:
        """A registered table's record. Raises SqlError (TABLE_OR_VIEW_NOT_FOUND, EXPECT_TABLE_NOT_VIEW)."""
        try:
            return self.engine("GET", "tables", full_name)
        except SqlError:
            if (found := self.find("table", full_name)) and found["table_type"] == "VIEW":
                raise not_a_table(full_name) from None
            raise

    def find(self, kind: str, full_name: str) -> dict[str, Any] | None:
        """A securable as it is stored, or None when it or its parent is missing."""
        try:
            return self.engine("GET", "records", kind, full_name)
        except SqlError as error:
            if error.condition in {CONDITIONS[code][0] for code in CONDITIONS if code.endswith("DOES_NOT_EXIST")}:
                return None
            raise

    def service(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """One call to another service of the workspace. Raises SqlError."""
        return self._call(method, path, (), options)
