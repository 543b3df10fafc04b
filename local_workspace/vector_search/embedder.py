"""Vectors of texts, by a serving endpoint of the workspace."""

from typing import Any

import httpx
import stamina

from local_workspace.errors import BadRequest, Unavailable

BATCH = 64
BUSY = (429, 503)


class _Busy(Exception):
    """The endpoint says that it will answer later."""


class Embedder:
    """Asks the workspace that started this engine, like any client of it."""

    def __init__(self, host: str, token: str):
        self._http = httpx.Client(base_url=host, headers={"Authorization": f"Bearer {token}"}, timeout=120)

    def embed(self, endpoint: str, texts: list[str]) -> list[list[float]]:
        """One vector for each text. Raises BadRequest or Unavailable, naming the endpoint and what it said."""
        return [
            vector for start in range(0, len(texts), BATCH) for vector in self._some(endpoint, texts[start:][:BATCH])
        ]

    def _some(self, endpoint: str, texts: list[str]) -> list[list[float]]:
        try:
            for attempt in stamina.retry_context(on=_Busy, attempts=3, timeout=20, wait_initial=0.5):
                with attempt:
                    response = self._post(endpoint, texts)
        except _Busy as busy:
            raise Unavailable(f"the embedding endpoint {endpoint!r} {busy}") from busy
        if response.is_error:
            kind = BadRequest if response.is_client_error else Unavailable
            raise kind(f"the embedding endpoint {endpoint!r} {_said(response)}")
        try:
            vectors = [item["embedding"] for item in sorted(response.json()["data"], key=lambda item: item["index"])]
        except (ValueError, LookupError, TypeError) as error:
            raise Unavailable(
                f"the embedding endpoint {endpoint!r} answered no embeddings (llm/v1/embeddings)"
            ) from error
        if len(vectors) != len(texts):
            raise Unavailable(f"the embedding endpoint {endpoint!r} gave {len(vectors)} vectors for {len(texts)} texts")
        return vectors

    def _post(self, endpoint: str, texts: list[str]) -> httpx.Response:
        try:
            response = self._http.post(f"/serving-endpoints/{endpoint}/invocations", json={"input": texts})
        except httpx.TransportError as error:
            raise Unavailable(f"the embedding endpoint {endpoint!r} did not answer ({type(error).__name__})") from error
        if response.status_code in BUSY:
            raise _Busy(_said(response))
        return response


def _said(response: httpx.Response) -> str:
    try:
        body: Any = response.json()
        return f"answered {response.status_code}: {body['message']}"
    except (ValueError, LookupError, TypeError):
        return f"answered {response.status_code}"
