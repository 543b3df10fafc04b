"""The `embed` engine: sentence embeddings behind OpenAI's `/v1/embeddings`. `python -m … ONNX TOKENIZER NAME`."""

import base64
import sys
from collections.abc import Sequence

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from tokenizers import Tokenizer

from local_workspace.child import serve
from local_workspace.errors import BadRequest, install

MAX_TOKENS = 256
"""What all-MiniLM-L6-v2 was trained on; the rest of a longer text is cut off."""
BATCH = 32


class Embedder:
    """Mean-pooled, L2-normalised embeddings of texts."""

    def __init__(self, model: str, tokenizer: str):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._inputs = {argument.name for argument in self._session.get_inputs()}
        self._tokenizer = Tokenizer.from_file(tokenizer)
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()

    def embed(self, texts: Sequence[str]) -> tuple[np.ndarray, int]:
        """float32 vectors of shape (texts, dimension) and the number of tokens read."""
        batches = [self._batch(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]
        return np.concatenate([vectors for vectors, _ in batches]), sum(tokens for _, tokens in batches)

    def _batch(self, texts: Sequence[str]) -> tuple[np.ndarray, int]:
        encodings = self._tokenizer.encode_batch(list(texts))
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, {name: feed[name] for name in self._inputs})[0]
        weights = mask[:, :, None].astype(np.float32)
        means = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32), int(mask.sum())


class EmbeddingsRequest(BaseModel):
    """OpenAI's request, its tokenised forms excepted."""

    model_config = ConfigDict(extra="ignore")

    input: str | list[str]
    encoding_format: str = "float"


def create_app(embedder: Embedder, name: str) -> FastAPI:
    """The engine's API."""
    app = FastAPI(openapi_url=None)
    install(app)

    @app.post("/v1/embeddings")
    def embeddings(body: EmbeddingsRequest) -> dict:
        texts = [body.input] if isinstance(body.input, str) else body.input
        if not texts:
            raise BadRequest("input: at least one text is needed", error_code="BAD_REQUEST")
        vectors, tokens = embedder.embed(texts)
        encoded = [_base64(v) if body.encoding_format == "base64" else v.tolist() for v in vectors]
        data = [{"object": "embedding", "index": i, "embedding": value} for i, value in enumerate(encoded)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": name, "usage": usage}

    return app


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.tobytes()).decode()


if __name__ == "__main__":
    onnx, tokenizer, name = sys.argv[1:]
    serve(create_app(Embedder(onnx, tokenizer), name))
