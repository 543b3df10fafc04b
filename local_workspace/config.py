"""What one local workspace is started with."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_MODEL = "qwen-0.5b"


@dataclass(frozen=True)
class Config:
    """The settings of one workspace; everything it keeps lies below `root`."""

    root: Path
    port: int = 0
    """TCP port of the REST API on 127.0.0.1; 0 takes a free one and keeps it for the next start."""
    model: str = DEFAULT_MODEL
    """`smollm2`, `qwen-0.5b`, the path of a GGUF file, or the URL of any OpenAI-compatible server."""
    weights: Path | None = None
    """Folder of the model weights when several workspaces share one; else it lies below `root`."""
    scale_to_zero_seconds: float = 1800.0
    """How long a served model that may scale to zero stays idle before its process is stopped."""

    @classmethod
    def from_environment(cls, root: Path, port: int, environ: Mapping[str, str] = os.environ) -> "Config":
        """The configuration for `root`: `SOTA_LOCAL_MODEL` is the chat model, `SOTA_WEIGHTS` the weights' folder,
        `SOTA_SCALE_TO_ZERO_SECONDS` how long an idle model may stay up.
        """
        weights = environ.get("SOTA_WEIGHTS")
        return cls(
            root=root.resolve(),
            port=port,
            model=environ.get("SOTA_LOCAL_MODEL") or DEFAULT_MODEL,
            weights=Path(weights).expanduser().resolve() if weights else None,
            scale_to_zero_seconds=float(environ.get("SOTA_SCALE_TO_ZERO_SECONDS") or cls.scale_to_zero_seconds),
        )

    def folder(self, *parts: str) -> Path:
        """A folder below the root, made if missing."""
        path = self.root.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return path
