"""The data plane's request bodies; a field that a task does not know is wrong, as on Databricks."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)

from local_workspace.errors import BadRequest, NotImplementedHere
from local_workspace.serving.tasks import CHAT, COMPLETIONS, EMBEDDINGS, NEEDED

OTHER_SHAPES = ("dataframe_records", "dataframe_split", "inputs", "instances", "prompt", "messages", "input")


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Message(BaseModel):
    """A turn of a conversation."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "user", "assistant", "tool", "developer"]
    content: StrictStr | list[dict[str, Any]] | None = None


class StreamOptions(_Request):
    """What a stream tells at its end."""

    include_usage: StrictBool = False
    include_obfuscation: StrictBool | None = None


Probability = Annotated[StrictFloat, Field(ge=0, le=1)]
Penalty = Annotated[StrictFloat, Field(ge=-2, le=2)]


def _with_its_schema(wanted: dict[str, Any]) -> dict[str, Any]:
    described = wanted.get("json_schema")
    if wanted.get("type") == "json_schema" and not (
        isinstance(described, dict) and isinstance(described.get("schema"), dict)
    ):
        raise ValueError("type json_schema needs the schema as json_schema.schema, an object")
    return wanted


ResponseFormat = Annotated[dict[str, Any], AfterValidator(_with_its_schema)]


class _Generation(_Request):
    max_tokens: StrictInt | None = Field(None, ge=1)
    temperature: StrictFloat | None = Field(None, ge=0, le=2)
    top_p: Probability | None = None
    top_k: StrictInt | None = Field(None, ge=1)
    n: StrictInt | None = Field(None, ge=1, le=8)
    stop: StrictStr | list[StrictStr] | None = None
    seed: StrictInt | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    user: StrictStr | None = None


class ChatRequest(_Generation):
    """A chat task's request."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: StrictInt | None = Field(None, ge=1)
    logprobs: StrictBool | None = None
    top_logprobs: StrictInt | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: StrictStr | dict[str, Any] | None = None
    parallel_tool_calls: StrictBool | None = None


class CompletionsRequest(_Generation):
    """A completions task's request."""

    prompt: StrictStr | Annotated[list[StrictStr], Field(min_length=1)]
    suffix: StrictStr | None = None
    echo: StrictBool | None = None


class EmbeddingsRequest(_Request):
    """An embeddings task's request."""

    input: StrictStr | Annotated[list[StrictStr], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] = "float"
    instruction: None = None
    user: StrictStr | None = None


REQUESTS: dict[str, type[BaseModel]] = {
    CHAT: ChatRequest,
    COMPLETIONS: CompletionsRequest,
    EMBEDDINGS: EmbeddingsRequest,
}


def check(endpoint: str, task: str | None, body: dict[str, Any]) -> None:
    """Raises BadRequest naming the field that is wrong; a model without a task of OpenAI's checks for itself."""
    if task not in REQUESTS:
        return
    if NEEDED[task] not in body:
        found = [shape for shape in OTHER_SHAPES if shape in body]
        sent = f", not {', '.join(found)}" if found else ""
        raise BadRequest(
            f"Endpoint '{endpoint}' has the task {task}: send '{NEEDED[task]}'{sent}", error_code="BAD_REQUEST"
        )
    if task == EMBEDDINGS and body.get("dimensions") is not None:
        raise NotImplementedHere("dimensions is not available: an embedding has as many as its model gives")
    try:
        REQUESTS[task].model_validate(body)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadRequest(problems, error_code="BAD_REQUEST") from error
