"""What an imported item becomes, by its format, name and first line."""

import json
from dataclasses import dataclass

from local_workspace.errors import BadRequest, NotImplementedHere

MARKERS = {
    ".py": ("PYTHON", b"# Databricks notebook source"),
    ".sql": ("SQL", b"-- Databricks notebook source"),
    ".scala": ("SCALA", b"// Databricks notebook source"),
    ".r": ("R", b"# Databricks notebook source"),
}
LANGUAGES = ("PYTHON", "SQL", "SCALA", "R")
FORMATS = ("SOURCE", "AUTO", "RAW", "JUPYTER", "DBC", "HTML", "R_MARKDOWN")


@dataclass(frozen=True)
class Item:
    """What is to be written where."""

    path: str
    object_type: str
    language: str | None = None
    jupyter: bool = False


def classify(path: str, content: bytes, item_format: str, language: str | None) -> Item:
    """The object that an import makes. Raises BadRequest, and NotImplementedHere for DBC, HTML and R Markdown."""
    if item_format not in FORMATS:
        raise BadRequest(f"format must be one of {', '.join(FORMATS)}; got {item_format!r}")
    if language is not None and language not in LANGUAGES:
        raise BadRequest(f"language must be one of {', '.join(LANGUAGES)}; got {language!r}")
    if item_format == "RAW":
        return Item(path, "FILE")
    if item_format == "AUTO":
        return _automatic(path, content)
    if item_format == "JUPYTER":
        return Item(path, "NOTEBOOK", _jupyter_language(content), jupyter=True)
    if item_format == "SOURCE":
        if language is None:
            raise BadRequest("language is required to import a notebook as SOURCE")
        return Item(path, "NOTEBOOK", language)
    raise NotImplementedHere(f"local_workspace does not import the format {item_format}")


def _automatic(path: str, content: bytes) -> Item:
    stem, dot, extension = path.rpartition(".")
    extension = dot + extension.lower()
    if extension == ".ipynb":
        return Item(stem, "NOTEBOOK", _jupyter_language(content), jupyter=True)
    if extension in MARKERS:
        language, marker = MARKERS[extension]
        if content.startswith(marker):
            return Item(stem, "NOTEBOOK", language)
    return Item(path, "FILE")


def _jupyter_language(content: bytes) -> str:
    try:
        notebook = json.loads(content)
        cells, metadata = notebook["cells"], notebook.get("metadata", {})
        language = str(metadata.get("language_info", {}).get("name", "python")).upper()
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BadRequest("content is not a Jupyter notebook: a JSON object with `cells` is needed") from None
    if not isinstance(cells, list):
        raise BadRequest("content is not a Jupyter notebook: `cells` must be a list")
    return language if language in LANGUAGES else "PYTHON"
