"""The engine's endpoints for indexes that follow a Delta table."""

from typing import Protocol

from fastapi import APIRouter
from pydantic import BaseModel

from local_workspace.errors import BadRequest, NotFound
from local_workspace.vector_search.columns import Columns
from local_workspace.vector_search.embedder import Embedder
from local_workspace.vector_search.follow import Managed, follow
from local_workspace.vector_search.index import Index
from local_workspace.vector_search.source import CHANGE_DATA_FEED, Source, checked_columns


class SourceBody(BaseModel):
    """A table, and what an index will take from it; `text` is the column that is embedded, if one is."""

    location: str
    source_table: str
    primary_key: str
    vector: str
    text: str | None = None
    columns_to_sync: list[str] | None = None
    needs_feed: bool


class SyncBody(BaseModel):
    """Where an index stands and how it is made."""

    location: str
    source_table: str
    since: int | None = None
    primary_key: str
    vector: str
    dimension: int | None = None
    type_names: dict[str, str]
    text: str | None = None
    embedder: str | None = None


class HasIndexes(Protocol):
    """Where the indexes are."""

    def create(self, name: str, columns: Columns) -> Index: ...

    def get(self, name: str) -> Index: ...


def router(indexes: HasIndexes, embedder: Embedder) -> APIRouter:
    """`POST /sources` checks a table, `POST /indexes/{name}/sync` brings an index to its newest version."""
    api = APIRouter()

    @api.post("/sources")
    def check(body: SourceBody) -> dict:
        source = Source(body.location, body.source_table)
        if body.needs_feed and not source.has_feed:
            raise BadRequest(
                f"Change Data Feed is not enabled on the source table {body.source_table!r}, and an index on a "
                f"STANDARD endpoint needs it: ALTER TABLE {body.source_table} SET TBLPROPERTIES "
                f"({CHANGE_DATA_FEED} = true)"
            )
        needed = body.text or body.vector
        return {"type_names": checked_columns(source, body.primary_key, body.columns_to_sync, needed, body.vector)}

    @api.post("/indexes/{name}/sync")
    def sync(name: str, body: SyncBody) -> dict:
        source = Source(body.location, body.source_table)
        managed = None
        if body.text and body.embedder:
            endpoint = body.embedder
            managed = Managed(body.text, lambda texts: embedder.embed(endpoint, texts))
        since = body.since
        try:
            index = indexes.get(name)
        except NotFound:
            since = None
            dimension = body.dimension or (len(managed.embed(["dimension"])[0]) if managed else 0)
            index = indexes.create(name, Columns(body.primary_key, body.vector, dimension, body.type_names))
        follow(index, source, since, managed)
        return {"version": source.version, "indexed_row_count": index.count()}

    return api
