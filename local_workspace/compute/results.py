"""How the Command Execution API shows what a cell did."""

import html
from typing import Any

from local_workspace.runtime.outputs import Result


def as_results(result: Result) -> dict[str, Any]:
    """A cell's end as the SDK's `Results`: an error, what it exited with, a table, pictures or text."""
    if result.error:
        name, message = html.escape(result.error.name), html.escape(result.error.message)
        return {
            "resultType": "error",
            "summary": f'<span class="ansi-red-fg">{name}</span>: {message}',
            "cause": result.error.trace,
        }
    if result.exit is not None:
        return {"resultType": "text", "data": result.exit}
    if result.tables:
        table = result.tables[-1]
        columns = zip(table.names, table.types, strict=True)
        return {
            "resultType": "table",
            "data": table.rows,
            "schema": [{"name": name, "type": kind, "metadata": "{}"} for name, kind in columns],
            "isJsonSchema": False,
            "truncated": table.truncated,
            "pos": 0,
        }
    pictures = [o["data"]["image/png"].strip() for o in result.outputs if "image/png" in o.get("data", {})]
    urls = [f"data:image/png;base64,{picture}" for picture in pictures]
    if len(urls) > 1:
        return {"resultType": "images", "fileNames": urls}
    if urls:
        return {"resultType": "image", "fileName": urls[0]}
    return {"resultType": "text", "data": result.text}


def failed(summary: str) -> dict[str, Any]:
    """The results of a command that did not come to its own end."""
    return {"resultType": "error", "summary": summary, "cause": summary}
