"""The `llm` engine: llama.cpp's own OpenAI server over one GGUF file. `python -m … PATH NAME`."""

import os
import sys
import threading
from urllib.parse import urlsplit

import xllamacpp

from local_workspace.child import KEY_VARIABLE, announce, exit_with_parent

SLOTS = 4
"""Requests answered at the same time; each slot keeps the state of its last prompt for the next one like it."""
CONTEXT_TOKENS = 16384
"""Of all slots together: prompts and answers."""
DEFAULT_MAX_TOKENS = 1024
"""Where a small model that never finds an end is stopped if the request says nothing."""
PROMPT_CACHE_MIB = 512


def parameters(path: str, name: str, key: str) -> xllamacpp.CommonParams:
    """What the server runs with: it answers those alone who send `key` (it accepts it in the engines' own header)."""
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    params.n_parallel = SLOTS
    params.n_ctx = CONTEXT_TOKENS
    params.kv_unified = True
    params.n_predict = DEFAULT_MAX_TOKENS
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.use_jinja = True
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = 2
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = min(2, os.cpu_count() or 1)
        cpu.poll = 0  # threads that spin while they wait starve the other processes of a small machine
    return params


def main() -> None:
    """Load the model, announce the port, serve until the parent goes."""
    path, name = sys.argv[1:]
    exit_with_parent()
    server = xllamacpp.Server(parameters(path, name, os.environ[KEY_VARIABLE]))
    port = urlsplit(server.listening_address).port
    if port is None:
        raise SystemExit(f"llama.cpp listens on no port: {server.listening_address}")
    announce(port)
    threading.Event().wait()


if __name__ == "__main__":
    main()
