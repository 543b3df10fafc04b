"""The `pyfunc` engine: one MLflow model behind `POST /invocations`. `python -m … FOLDER BUILD_LOG`."""

import contextvars
import datetime
import importlib.metadata
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, load_model
from mlflow.pyfunc.scoring_server import SUPPORTED_FORMATS, infer_and_parse_data
from mlflow.pyfunc.utils.serving_data_parser import is_unified_llm_input
from mlflow.utils.proto_json_utils import NumpyEncoder
from packaging.requirements import InvalidRequirement, Requirement
from pandas import DataFrame, Series
from starlette.concurrency import run_in_threadpool

from local_workspace.child import serve
from local_workspace.errors import BadRequest, install
from local_workspace.serving import sse

log = logging.getLogger(__name__)
CAUSE = "Error: "
"""What MLflow puts between the whole input, which the caller has, and what is wrong with it."""


class Served:
    """A loaded model, asked in the ways of Databricks Model Serving."""

    def __init__(self, model: PyFuncModel):
        self._model = model
        self._schema = model.metadata.get_input_schema()
        params = model.metadata.get_params_schema()
        self._params = {param.name for param in params.params} if params else set()

    def answer(self, body: dict[str, Any]) -> bytes:
        """The predictions as JSON, `null` where there is no number. Raises BadRequest with the model's own words."""
        data, params = self._parsed(body)
        found = self._tried(lambda: self._model.predict(data, params=params))
        if isinstance(found, Series):
            found = found.to_frame()
        if isinstance(found, DataFrame):
            found = found.to_dict(orient="records")
        return _json(found if is_unified_llm_input(body) else {"predictions": found})

    def events(self, body: dict[str, Any]) -> Iterator[bytes]:
        """The model's stream as server-sent events; what comes before the first one is checked here."""
        data, params = self._parsed(body)
        # Each step may run on another thread: what the model keeps in context variables must be there all the same.
        context = contextvars.copy_context()

        def step(work: Callable[..., Any], *arguments: Any) -> Any:
            return self._tried(lambda: context.run(work, *arguments))

        stream = step(lambda: iter(self._model.predict_stream(data, params=params)))
        first = step(next, stream, None)

        def rest() -> Iterator[bytes]:
            item = first
            try:
                while item is not None:
                    yield b"data: " + _json(item) + b"\n\n"
                    item = step(next, stream, None)
                yield b"data: [DONE]\n\n"
            except BadRequest as error:
                yield sse.event({"error": {"code": error.error_code, "message": error.message}})

        return rest()

    def _parsed(self, body: dict[str, Any]) -> tuple[Any, dict[str, Any] | None]:
        if is_unified_llm_input(body):
            given = {name: value for name, value in body.items() if name in self._params}
            return {name: value for name, value in body.items() if name not in given}, given or None
        data = {name: value for name, value in body.items() if name in SUPPORTED_FORMATS}
        if len(data) != 1:
            raise BadRequest(
                f"send one of {', '.join(sorted(SUPPORTED_FORMATS))}, not {', '.join(body) or 'nothing'}",
                error_code="BAD_REQUEST",
            )
        params = body.get("params")
        if params is not None and not isinstance(params, dict):
            raise BadRequest("params must be an object", error_code="BAD_REQUEST")
        if self._model.metadata._is_signature_from_type_hint():
            if "inputs" not in data:
                raise BadRequest("this model's signature comes from type hints: send inputs", error_code="BAD_REQUEST")
            return data["inputs"], params
        try:
            return infer_and_parse_data(data, self._schema), params
        except MlflowException:
            # A value that cannot be cast: read as it came, the model's own check of its signature names the column.
            return self._tried(lambda: infer_and_parse_data(data)), params

    def _tried(self, work: Callable[[], Any]) -> Any:
        """What `work` gives. A failure inside a user's model is the answer to this request, never the engine's end."""
        try:
            return work()
        except MlflowException as error:
            raise BadRequest(error.message.rpartition(CAUSE)[2], error_code="BAD_REQUEST") from error
        except Exception as error:
            log.exception("the model failed")
            raise BadRequest(
                f"the model failed on this input: {type(error).__name__}: {error}", error_code="BAD_REQUEST"
            ) from error


def _json(value: Any) -> bytes:
    return orjson.dumps(
        value, default=NumpyEncoder().default, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    )


def create_app(served: Served) -> FastAPI:
    """The engine's API."""
    app = FastAPI(openapi_url=None)
    install(app)

    @app.post("/invocations")
    async def invocations(request: Request) -> Response:
        body = orjson.loads(await request.body())
        if body.pop("stream", None):
            events = await run_in_threadpool(served.events, body)
            return StreamingResponse(events, media_type="text/event-stream")
        return Response(await run_in_threadpool(served.answer, body), media_type="application/json")

    return app


class BuildLog:
    """What happened until the model was ready, one line each; a new one in place of the last."""

    def __init__(self, path: Path):
        self._file = path.open("w", buffering=1)

    def write(self, text: str) -> None:
        """Add lines."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        self._file.writelines(f"[{now}] {line}\n" for line in text.splitlines())


def requirements(folder: Path) -> Iterator[str]:
    """How each of the model's requirements is met by this environment, which the workspace shares with its models."""
    path = folder / "requirements.txt"
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            wanted = Requirement(line.partition("#")[0].strip())
            installed = importlib.metadata.version(wanted.name)
        except InvalidRequirement:
            continue
        except importlib.metadata.PackageNotFoundError:
            yield f"requirement {line}: NOT INSTALLED"
        else:
            met = "met" if wanted.specifier.contains(installed, prereleases=True) else "NOT MET"
            yield f"requirement {line}: {met} by {installed}"


def main() -> None:
    """Load the model, serve it until the parent goes."""
    folder, build = Path(sys.argv[1]), BuildLog(Path(sys.argv[2]))
    build.write(f"Python {sys.version.split()[0]}, MLflow {mlflow.__version__}, model {folder.name}")
    for line in requirements(folder):
        build.write(line)
    if "MLFLOW_TRACKING_URI" not in os.environ:
        mlflow.tracing.disable()  # else an agent's traces would go into a database in the working folder
    started = time.perf_counter()
    try:
        model = load_model(str(folder))
    except Exception:  # a user's model may fail in any way: the build log says how
        build.write(traceback.format_exc())
        raise
    build.write(f"the model was loaded in {time.perf_counter() - started:.2f} s")
    serve(create_app(Served(model)))


if __name__ == "__main__":
    main()
