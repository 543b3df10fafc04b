"""`ai_query`: rows sent to the workspace's serving endpoints, several at a time."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
import pandas as pd
from pyspark.sql.connect.session import SparkSession
from pyspark.sql.functions import pandas_udf

from local_workspace.sql.lake.context import Lake
from local_workspace.sql.lake.errors import SqlError, syntax, unsupported
from local_workspace.sql.lake.files import text_of
from local_workspace.sql.lake.parameters import string_literal
from local_workspace.sql.lake.rewriting import Call

OTHERS = {
    "ai_analyze_sentiment",
    "ai_classify",
    "ai_extract",
    "ai_fix_grammar",
    "ai_forecast",
    "ai_gen",
    "ai_generate_text",
    "ai_mask",
    "ai_parse_document",
    "ai_similarity",
    "ai_summarize",
    "ai_translate",
}
FUNCTIONS = {"ai_query", *OTHERS}
NAMED = {"endpoint", "request", "returntype", "failonerror", "modelparameters", "responseformat"}
CONCURRENCY = 8
"""Requests to an endpoint at once, for each batch that Sail works on."""
BATCH = 64
"""Rows in one request where the endpoint takes several."""
SCALARS = {"STRING", "INT", "BIGINT", "DOUBLE", "FLOAT", "BOOLEAN", "SMALLINT", "TINYINT", "DATE", "TIMESTAMP"}


def _failed(text: str) -> SqlError:
    return SqlError("AI_FUNCTION_HTTP_REQUEST_ERROR", text, "08000")


@dataclass(frozen=True)
class Endpoint:
    """A serving endpoint as the rows of one call see it."""

    host: str
    token: str
    name: str
    task: str
    parameters: dict[str, Any] = field(default_factory=dict)

    def answers(self, client: httpx.Client, rows: list[Any]) -> list[Any]:
        """One answer for each row, in their order. Raises SqlError."""
        if self.task == "llm/v1/chat":
            [content] = rows
            body: dict[str, Any] = {"messages": [{"role": "user", "content": content}]} | self.parameters
        elif self.task == "llm/v1/embeddings":
            body = {"input": rows} | self.parameters
        elif all(isinstance(row, dict) for row in rows):
            body = {"dataframe_records": rows} | self.parameters
        else:
            body = {"inputs": rows} | self.parameters
        response = client.post(
            f"/serving-endpoints/{self.name}/invocations",
            content=orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY),
            headers={"Content-Type": "application/json"},
        )
        if response.is_error:
            raise _failed(f"The endpoint {self.name} answered {response.status_code}: {response.text[:500]}")
        answer = response.json()
        if self.task == "llm/v1/chat":
            return [answer["choices"][0]["message"]["content"]]
        if self.task == "llm/v1/embeddings":
            return [item["embedding"] for item in answer["data"]]
        return list(answer["predictions"])

    def query(self, values: list[Any], fail: bool) -> list[str | None]:
        """The answers to values as text, JSON where they are no strings; nulls stay nulls. Raises SqlError."""
        size = 1 if self.task == "llm/v1/chat" else BATCH
        places = [i for i, value in enumerate(values) if value is not None]
        batches = [places[i : i + size] for i in range(0, len(places), size)]
        found: list[str | None] = [None] * len(values)
        headers = {"Authorization": f"Bearer {self.token}"}
        with (
            httpx.Client(base_url=self.host, headers=headers, timeout=600) as client,
            ThreadPoolExecutor(CONCURRENCY) as pool,
        ):

            def answered(batch: list[int]) -> None:
                try:
                    answers = self.answers(client, [values[i] for i in batch])
                    if len(answers) != len(batch):
                        raise _failed(f"The endpoint {self.name} answered {len(answers)} of {len(batch)} rows.")
                    shown = answers if fail else [{"result": answer, "errorMessage": None} for answer in answers]
                except (SqlError, httpx.HTTPError, KeyError, ValueError) as error:
                    if fail:
                        raise error if isinstance(error, SqlError) else _failed(repr(error)) from error
                    shown = [{"result": None, "errorMessage": str(error)}] * len(batch)
                for i, answer in zip(batch, shown, strict=True):
                    found[i] = answer if isinstance(answer, str) else json.dumps(answer)

            list(pool.map(answered, batches))
        return found


def _rows(column: pd.Series | pd.DataFrame) -> list[Any]:
    if isinstance(column, pd.DataFrame):
        return column.to_dict("records")
    return [None if value is None or value is pd.NA else value for value in column.tolist()]


def ai_query(lake: Lake, session: SparkSession, call: Call) -> tuple[Any, Callable[[str], str]]:
    """The function that asks the endpoint of a call, and what is written around its name. Raises SqlError."""
    if call.name.lower() != "ai_query":
        raise unsupported(f"the function {call.name.lower()} (use ai_query with an endpoint of your own)")
    named = dict(zip(("endpoint", "request"), call.positional, strict=False)) | call.named
    if unknown := sorted(set(named) - NAMED):
        raise unsupported(f"the argument {unknown[0]} of ai_query")
    if len(call.positional) > 2 or not {"endpoint", "request"} <= set(named):
        raise syntax("ai_query needs an endpoint and a request; its other arguments are given by name.")
    name = text_of(named["endpoint"])
    parameters = {}
    if "modelparameters" in named:
        text = session.sql(f"SELECT to_json({named['modelparameters']}) AS p").toArrow()["p"].to_pylist()[0]
        parameters = json.loads(text)
    if "responseformat" in named:
        given = text_of(named["responseformat"])
        parameters["response_format"] = json.loads(given) if given.startswith("{") else {"type": given}
    task = lake.catalog.service("GET", f"/api/2.0/serving-endpoints/{name}").get("task") or ""
    endpoint = Endpoint(lake.catalog.host, lake.catalog.token, name, task, parameters)
    fail = text_of(named.get("failonerror", "true")) == "true"
    embeds = endpoint.task == "llm/v1/embeddings"
    kind = text_of(named["returntype"]) if "returntype" in named else "ARRAY<FLOAT>" if embeds else "STRING"

    def answers(column: pd.Series) -> pd.Series:
        return pd.Series(endpoint.query(_rows(column), fail), dtype=object)

    def written(function: str) -> str:
        asked = f"{function}({named['request']})"
        if not fail:
            return f"from_json({asked}, {string_literal(f'STRUCT<result: {kind}, errorMessage: STRING>')})"
        if kind.upper() in SCALARS:
            return asked if kind.upper() == "STRING" else f"CAST({asked} AS {kind})"
        return f"from_json({asked}, {string_literal(kind)})"

    made: Any = pandas_udf  # its overloads do not know that annotations tell the kind of function
    return made(answers, "string"), written
