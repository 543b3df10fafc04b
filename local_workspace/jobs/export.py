"""An executed notebook as one HTML page."""

import html
from collections.abc import Iterator
from typing import Any

from local_workspace.workspace.conversions import model

STYLE = (
    "body{font:15px system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "pre{background:#f6f8fa;padding:.6rem;overflow:auto}.error{background:#ffebe9}"
    "table{border-collapse:collapse}td,th{border:1px solid #d0d7de;padding:.2rem .5rem;text-align:left}"
)


def as_html(name: str, notebook: dict[str, Any]) -> str:
    """The notebook's cells with their outputs."""
    cells = "\n".join(part for cell in notebook["cells"] for part in _cell(cell))
    title = html.escape(name)
    script = model(name, "python", [(cell["source"], _text(cell)) for cell in notebook["cells"]])
    return (
        f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style></head>'
        f"<body><h1>{title}</h1>\n{cells}\n{script}</body></html>"
    )


def _cell(cell: dict[str, Any]) -> Iterator[str]:
    yield f"<pre><code>{html.escape(cell['source'])}</code></pre>"
    for output in cell.get("outputs", []):
        if output["output_type"] == "stream":
            yield f"<pre>{html.escape(output['text'])}</pre>"
        elif output["output_type"] == "error":
            yield f'<pre class="error">{html.escape(chr(10).join(output["traceback"]))}</pre>'
        else:
            yield _data(output["data"])


def _text(cell: dict[str, Any]) -> str:
    """What a cell has printed and shown, as text."""
    outputs = cell.get("outputs", [])
    return "".join(str(o.get("text") or o.get("data", {}).get("text/plain", "")) for o in outputs)


def _data(data: dict[str, Any]) -> str:
    if picture := data.get("image/png"):
        return f'<img alt="" src="data:image/png;base64,{picture}">'
    if page := data.get("text/html"):
        # Users' HTML keeps to a frame without the page's origin.
        return f'<iframe sandbox="allow-scripts" style="width:100%;height:20rem" srcdoc="{html.escape(page)}"></iframe>'
    return f"<pre>{html.escape(str(data.get('text/plain', '')))}</pre>"
