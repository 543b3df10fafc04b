"""Where prompts are kept: MLflow's registry in Unity Catalog (docs/decisions/0011), its mirror in a volume, the record of moves."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from urllib.parse import quote

from databricks.sdk import WorkspaceClient

from .core import AlreadyExists, ConfigurationError, InvalidInput, NotFound, PermissionDenied, new_id
from .prompt_text import NAME, Prompt, compose
from .settings import Settings
from .workspace import Workspace, translate

__all__ = [
    "Move",
    "MoveRecord",
    "PromptMirror",
    "PromptRegistry",
    "RegisteredVersion",
    "check_alias",
    "check_metadata",
    "check_reason",
]


_API = "/api/2.0/mlflow/unity-catalog/prompts"
_PAGE = 100
_RETRY_SECONDS, _TIMEOUT_SECONDS = 5, 10  # then the mirror answers, without it memory: no request waits for either
_KIND, _TEXT = "_mlflow_prompt_type", "text"  # the tag by which MLflow tells a text from a list of chat messages
_KEY = re.compile(r"(?!_mlflow)[A-Za-z_]\w{0,99}", re.ASCII)  # Unity Catalog's tags have no dots
_ALIAS = re.compile(r"(?!(?:v?\d+|latest)$)[A-Za-z][\w-]{0,99}", re.ASCII | re.IGNORECASE)
_REGISTRYS_OWN = ("name", "version", "created_at")
_PRIVILEGES = "EXECUTE to read prompts, CREATE FUNCTION to save them and MANAGE to move their aliases"


def _impatient(workspace: Workspace) -> Workspace:  # the same one, given up on within seconds
    config = workspace.client.config.deep_copy()  # a shallow copy would change the workspace's own
    config.retry_timeout_seconds, config.http_timeout_seconds = _RETRY_SECONDS, _TIMEOUT_SECONDS
    return Workspace(workspace.settings, WorkspaceClient(config=config))


@dataclass(frozen=True)
class RegisteredVersion:
    """One version as the registry holds it."""

    name: str  # without catalog and schema
    version: int
    template: str | list[dict[str, Any]]  # a text, or MLflow's list of chat messages
    metadata: dict[str, Any]  # name, version and created_at; `why` is MLflow's commit message, the rest its tags
    aliases: tuple[str, ...]

    def prompt(self) -> Prompt:
        """The version as we use it. Raises InvalidInput when it is no well-formed text of ours."""
        text = self.template
        if not isinstance(text, str):  # chat messages that were registered with MLflow's own client
            said = [(str(message.get("role")), str(message.get("content"))) for message in text]
            system = said.pop(0)[1] if said and said[0][0] == "system" else ""
            if [role for role, _ in said] != ["user", "assistant"] * (len(said) // 2) + ["user"]:
                raise InvalidInput("the messages are not system, user, assistant, … and at last user", field="text")
            parts = [part for _, part in said]
            text = compose(system, list(zip(parts[:-1:2], parts[1::2], strict=True)), parts[-1])
        return Prompt(self.name, self.version, text, self.metadata)


class PromptRegistry:
    """The prompts of one schema. Everything raises Unavailable within seconds, PermissionDenied with the cure."""

    def __init__(self, workspace: Workspace, settings: Settings):
        self.workspace, self.settings = workspace, settings

    @cached_property
    def _client(self) -> WorkspaceClient:
        return _impatient(self.workspace).client

    def names(self) -> list[str]:
        """The names of all prompts, sorted. Raises NotFound without the schema."""
        schema = {"catalog_name": self.settings.catalog, "schema_name": self.settings.schema}
        pages = self._pages("search", {"catalog_schema": schema}, "prompts")
        return sorted(found["name"].rpartition(".")[2] for found in pages)

    def versions(self, name: str) -> list[RegisteredVersion]:
        """Every version of a prompt with its aliases, in numeric order. Raises NotFound."""
        pages = self._pages(f"{self._path(name)}/versions/search", {"name": self._full(name)}, "prompt_versions")
        return sorted(map(_version, pages), key=lambda found: found.version)

    def add(self, name: str, text: str, metadata: Mapping[str, Any]) -> RegisteredVersion:
        """A new version; the registry gives its number, and makes the prompt where there is none yet."""
        tags = {key: _tag(value) for key, value in metadata.items() if key != "why"} | {_KIND: _TEXT}
        told = [{"key": key, "value": value} for key, value in tags.items()]
        version = {"name": self._full(name), "template": json.dumps(text), "tags": told}
        version |= {"description": metadata["why"]} if metadata.get("why") else {}
        body = {"name": self._full(name), "prompt_version": version}
        path = f"{self._path(name)}/versions"
        try:
            return _version(self._call("POST", path, body))
        except NotFound:
            self._create(name)
        return _version(self._call("POST", path, body))

    def _create(self, name: str) -> None:
        try:
            self._call("POST", "", {"name": self._full(name), "prompt": {"name": self._full(name)}})
        except AlreadyExists:  # another writer was faster
            return

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Let an alias stand for a version from now on. Raises NotFound."""
        body = {"name": self._full(name), "alias": alias, "version": str(version)}
        self._call("POST", f"{self._path(name)}/aliases/{quote(alias, safe='')}", body)

    def delete_alias(self, name: str, alias: str) -> None:
        """Forget an alias; the version stays. Raises NotFound."""
        path = f"{self._path(name)}/aliases/{quote(alias, safe='')}"
        self._call("DELETE", path, {"name": self._full(name), "alias": alias})

    def _full(self, name: str) -> str:
        return self.settings.full_name(name)

    def _path(self, name: str) -> str:
        return quote(self._full(name), safe="")

    def _pages(self, path: str, body: dict[str, Any], what: str) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            answer = self._call("POST", path, body | {"max_results": _PAGE} | ({"page_token": token} if token else {}))
            yield from answer.get(what, [])
            token = answer.get("next_page_token", "")
            if not token:
                return

    def _call(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        schema = f"{self.settings.catalog}.{self.settings.schema}"
        try:
            with translate(f"the prompt registry of {schema}"):
                answer = self._client.api_client.do(method, f"{_API}/{path}" if path else _API, body=body)
        except PermissionDenied as error:
            cure = f"grant this identity on schema {schema} {_PRIVILEGES}"
            raise PermissionDenied(f"{error}; {cure}") from error
        return answer if isinstance(answer, dict) else {}


def check_alias(alias: str) -> None:
    """Raise InvalidInput for what no registry takes."""
    if not _ALIAS.fullmatch(alias):
        rule = "letters, digits, - and _, beginning with a letter; not `latest` nor a version"
        raise InvalidInput(f"alias {alias!r}: {rule}", field="alias")


def check_reason(by: str, why: str) -> None:
    """Raise InvalidInput for a move without who or why."""
    for name, value in (("by", by), ("why", why)):
        if not value.strip():
            raise InvalidInput(f"a move is recorded with who and why: {name} is empty", field=name)
        _check_written(name, value)


def _check_written(field: str, value: str) -> None:
    """Raise InvalidInput for half a character, which JSON can carry and neither a file nor a table can."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{field}: character {error.start + 1} is half of one: write it in UTF-8", field=field
        ) from None


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Raise InvalidInput naming what no registry keeps."""
    for key, value in metadata.items():
        if key in _REGISTRYS_OWN or not _KEY.fullmatch(key):
            rule = f"letters, digits and _, not beginning with _mlflow, none of {', '.join(_REGISTRYS_OWN)}"
            raise InvalidInput(f"metadata {key!r}: a name is {rule}", field=f"metadata.{key}")
        _check_written(f"metadata.{key}", _tag(value))
    if not isinstance(metadata.get("why", ""), str):
        raise InvalidInput("metadata why: a sentence is wanted", field="metadata.why")


def _tag(value: Any) -> str:  # a string as it is, anything else as JSON; so is a string that would be read as JSON
    if isinstance(value, str) and _untagged(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _untagged(tag: str) -> Any:
    try:
        return json.loads(tag)
    except (ValueError, RecursionError):
        return tag


def _version(found: dict[str, Any]) -> RegisteredVersion:
    name, version = found["name"].rpartition(".")[2], int(found["version"])
    tags = {tag["key"]: tag.get("value", "") for tag in found.get("tags", []) if not tag["key"].startswith("_mlflow")}
    metadata = {"name": name, "version": version, "created_at": found.get("creation_timestamp", "")}
    metadata |= {"why": found["description"]} if found.get("description") else {}
    return RegisteredVersion(
        name=name,
        version=version,
        template=json.loads(found["template"]),
        metadata=metadata | {key: _untagged(value) for key, value in tags.items() if key not in _REGISTRYS_OWN},
        aliases=tuple(alias["alias"] for alias in found.get("aliases", [])),
    )


_READERS = 8  # files read at once
_VERSION_FILE = re.compile(rf"(?P<name>{NAME.pattern})_v(?P<version>[1-9]\d*)\.txt")
_ALIASES_FILE = re.compile(rf"(?P<name>{NAME.pattern})_aliases\.json")


class PromptMirror:
    """The registry's contents as readable files in the `prompts` volume: what is read while the registry is away."""

    def __init__(self, workspace: Workspace, settings: Settings):
        self.workspace, self.folder = workspace, settings.volume("prompts")
        self._known: dict[str, bytes] = {}  # by file: what the mirror holds, as far as we have seen

    @cached_property
    def _volume(self) -> Workspace:
        return _impatient(self.workspace)

    @staticmethod
    def version_files(prompt: Prompt) -> dict[str, bytes]:
        """The two files of one version, by their names."""
        base = f"{prompt.name}_v{prompt.version}"
        return {f"{base}.txt": prompt.text.encode(), f"{base}_metadata.json": _json_bytes(prompt.metadata)}

    @staticmethod
    def alias_file(name: str, aliases: Mapping[str, int]) -> dict[str, bytes]:
        """The file that tells which versions a prompt's aliases stand for, by its name."""
        return {f"{name}_aliases.json": _json_bytes(dict(sorted(aliases.items())))}

    @classmethod
    def files(cls, prompts: Iterable[Prompt], aliases: Mapping[str, Mapping[str, int]]) -> dict[str, bytes]:
        """Every file of a registry's contents, by its name."""
        files: dict[str, bytes] = {}
        names = set()
        for prompt in prompts:
            files |= cls.version_files(prompt)
            names.add(prompt.name)
        for name in sorted(names):
            files |= cls.alias_file(name, aliases.get(name, {}))
        return files

    def complete(self, wanted: Mapping[str, bytes], thorough: bool = False) -> list[str]:
        """Write what the mirror lacks, `thorough`ly also what differs; the names of the files written."""
        missing = {file: data for file, data in wanted.items() if thorough or self._known.get(file) != data}
        if not missing:
            return []
        there = set(self._volume.list_files(self.folder))
        changing = [file for file in missing if thorough or _ALIASES_FILE.fullmatch(file)]  # versions never change
        found = dict.fromkeys(there & missing.keys()) | self._contents(there.intersection(changing))
        written = []
        for file, data in missing.items():
            if file not in found or found[file] not in (None, data):
                self._volume.write_file(f"{self.folder}/{file}", data, overwrite=True)
                written.append(file)
            self._known[file] = data
        return written

    def prompts(self) -> dict[tuple[str, int], Prompt]:
        """Every version, by name and number. Raises ConfigurationError naming a damaged file."""
        there = set(self._volume.list_files(self.folder))
        versions = {file: match for file in sorted(there) if (match := _VERSION_FILE.fullmatch(file))}
        metadata = {file: f"{file.removesuffix('.txt')}_metadata.json" for file in versions}
        wanted = there & {
            *versions,
            *metadata.values(),
        }  # a version lacks its metadata while its writer is between the two
        self._known |= self._contents(wanted - self._known.keys())
        found = {}
        for file, match in versions.items():
            name, version, about = match["name"], int(match["version"]), metadata[file]
            with self._naming(file):
                prompt = Prompt(name, version, self._known[file].decode())
            found[name, version] = replace(prompt, metadata=self._object(about)) if about in there else prompt
        return found

    def aliases(self) -> dict[str, dict[str, int]]:
        """The aliases of every prompt. Raises ConfigurationError naming a damaged file."""
        files = filter(None, map(_ALIASES_FILE.fullmatch, self._volume.list_files(self.folder)))
        named = {match[0]: match["name"] for match in files}
        self._known |= self._contents(named)
        return {name: self._object(file) for file, name in named.items()}

    def _contents(self, files: Iterable[str]) -> dict[str, bytes]:
        names = list(files)
        with ThreadPoolExecutor(_READERS, thread_name_prefix="prompt-mirror") as pool:
            return dict(
                zip(names, pool.map(self._volume.read_file, (f"{self.folder}/{n}" for n in names)), strict=True)
            )

    def _object(self, file: str) -> dict[str, Any]:
        with self._naming(file):
            content = json.loads(self._known[file])
            if not isinstance(content, dict):
                raise ValueError("no JSON object")
            return content

    @contextmanager
    def _naming(self, file: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, InvalidInput) as error:
            self._known.pop(file, None)  # it is read again when somebody has mended it
            cause = f"{self.folder}/{file} is damaged ({error}): `PromptStore.reconcile` mends it"
            raise ConfigurationError(cause) from error


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    # "surrogatepass", as `json.loads` reads bytes: somebody else's half a character keeps nobody from the mirror
    return json.dumps(content, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass")


@dataclass(frozen=True)
class Move:
    """One move of an alias."""

    move_id: str
    name: str
    alias: str
    from_version: int | None  # None: it stood for nothing
    to_version: int | None  # None: it was taken away
    moved_by: str
    why: str
    evidence: str  # such as the path of a verdict; of a rollback `rollback:<move_id>` first
    moved_at: datetime  # UTC

    @property
    def undoes(self) -> str | None:
        """The id of the move that this one took back."""
        match = re.match(r"rollback:([0-9a-f]{32})\b", self.evidence)
        return match[1] if match else None


class MoveRecord:
    """Who moved which alias and why: rows of the Delta table `prompt_moves`."""

    def __init__(self, workspace: Workspace, settings: Settings):
        self.workspace, self.table = workspace, settings.table("prompt_moves")

    def moves(self, name: str | None = None) -> list[Move]:
        """The moves of one prompt, or of all, the oldest first. Raises ConfigurationError before the first set-up."""
        columns = ", ".join(field.name for field in fields(Move))
        statement = f"SELECT {columns} FROM {self.table} WHERE name = coalesce(:name, name) ORDER BY moved_at"
        try:
            return [Move(**row) for row in self.workspace.sql(statement, name=name)]
        except NotFound as error:
            raise ConfigurationError(f"there is no table {self.table}: run `sota-deploy setup` first") from error

    def add(
        self, name: str, alias: str, from_version: int | None, to_version: int | None, by: str, why: str, evidence: str
    ) -> Move:
        """Record a move."""
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)  # as exact as every engine keeps it
        move = Move(new_id(), name, alias, from_version, to_version, by, why, evidence, now)
        values = dict(zip((field.name for field in fields(Move)), astuple(move), strict=True))
        places = ", ".join(f":{column}" for column in values)
        self.workspace.execute(f"INSERT INTO {self.table} ({', '.join(values)}) VALUES ({places})", **values)
        return move
