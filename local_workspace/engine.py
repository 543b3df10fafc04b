"""The parent's side of an engine: a child process started on first use and again when it has died."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from local_workspace.child import KEY_HEADER, KEY_VARIABLE
from local_workspace.errors import ApiError, Unavailable

# What a child inherits; everything else it needs is given to it by name.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "SYSTEMROOT", "OPENBLAS_CORETYPE")

END_SECONDS = 0.5
"""How long it may take to be told of a child's end."""


def child_environment(extra: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a child process: the few inherited variables and `extra`."""
    return {name: environ[name] for name in INHERITED if name in environ} | {"PYTHONUNBUFFERED": "1"} | dict(extra)


class Engine:
    """A child process that speaks HTTP on loopback, started lazily and supervised.

    `module` is run with `python -m module *arguments`; it announces its port as one JSON line on standard output
    (`local_workspace.child`). Its output goes to `log`. One that runs users' code gets a session of its own:
    what it has started ends with it.
    """

    def __init__(
        self,
        name: str,
        module: str,
        log: Path,
        arguments: Callable[[], list[str]] = list,
        environment: Callable[[], dict[str, str]] = dict,
        start_timeout: float = 60.0,
        own_session: bool = False,
    ):
        self.name = name
        self.log = log
        self.facts: dict[str, Any] = {}
        """What the running child announced: at least its `port`."""
        self._module = module
        self._arguments = arguments
        self._environment = environment
        self._start_timeout = start_timeout
        self._own_session = own_session
        self._key = secrets.token_hex(16)
        self._process: asyncio.subprocess.Process | None = None
        self._client: httpx.AsyncClient | None = None
        self._starting = asyncio.Lock()
        self._copier: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        """Whether the child is alive."""
        return self._process is not None and self._process.returncode is None

    async def client(self) -> httpx.AsyncClient:
        """A pooled client of the running child, which is started first if need be. Raises Unavailable."""
        async with self._starting:
            if not self.running or self._client is None:
                self._client = await self._start()
            return self._client

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request to the engine. Raises Unavailable when it dies meanwhile, ApiError when it answers an error."""
        client = await self.client()
        try:
            response = await client.request(method, path, **options)
        except httpx.TransportError as error:
            await self._notice_end()
            raise Unavailable(f"the {self.name} engine did not answer ({type(error).__name__}); try again") from error
        if response.is_error:
            raise engine_error(response)
        return response

    async def stop(self, grace: float = 5.0) -> None:
        """Terminate the child; kill it after `grace` seconds."""
        if self._client:
            await self._client.aclose()
            self._client = None
        if self.running and self._process:
            self._signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), grace)
            except TimeoutError:
                self._signal(signal.SIGKILL)
                await self._process.wait()
        self._end_session()
        if self._copier:
            await self._copier

    async def _notice_end(self) -> None:
        # A child's sockets are closed before asyncio is told of its end: until then the next call would meet it again.
        if self._process:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), END_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        # Process.kill would ask first whether the child has ended, and take its end from asyncio, which waits for it.
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def _end_session(self) -> None:
        if self._own_session and self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process = None

    async def _start(self) -> httpx.AsyncClient:
        if self._client:
            await self._client.aclose()
            self._client = None
        self._end_session()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                *self._arguments(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=child_environment({KEY_VARIABLE: self._key, **self._environment()}),
                start_new_session=self._own_session,
            )
        output = self._process.stdout
        if output is None:
            raise RuntimeError("the child was started without a pipe")
        try:
            self.facts = await asyncio.wait_for(self._announcement(output), self._start_timeout)
        except (TimeoutError, ValueError) as error:
            if self._process.returncode is None:
                self._signal(signal.SIGKILL)
            await self._process.wait()
            tail = self.log.read_bytes()[-800:].decode(errors="replace").strip()
            raise Unavailable(f"the {self.name} engine did not start: {tail or type(error).__name__}") from error
        self._copier = asyncio.create_task(self._copy(output))
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.facts['port']}",
            headers={KEY_HEADER: self._key},
            timeout=httpx.Timeout(600, connect=5),
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=50),
        )

    async def _announcement(self, output: asyncio.StreamReader) -> dict[str, Any]:
        while line := await output.readline():
            if line.startswith(b'{"port"'):
                return json.loads(line)
            with self.log.open("ab") as log:
                log.write(line)
        raise ValueError("it ended before it listened")

    async def _copy(self, output: asyncio.StreamReader) -> None:
        with self.log.open("ab") as log:
            while chunk := await output.read(65536):
                log.write(chunk)
                log.flush()


def engine_error(response: httpx.Response) -> ApiError:
    """An engine's error answer as the workspace's own, code and message kept."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    error = ApiError(
        body.get("message") or f"engine answered {response.status_code}", error_code=body.get("error_code")
    )
    error.status = response.status_code
    return error
