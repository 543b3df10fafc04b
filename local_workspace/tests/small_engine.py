"""The smallest engine there is, but for its threads: with many of them a killed process takes its time to end."""

import threading

from fastapi import FastAPI

from local_workspace.child import serve

app = FastAPI()


@app.get("/")
def index() -> dict[str, str]:
    return {"said": "here"}


if __name__ == "__main__":
    never = threading.Event()
    for _ in range(300):
        threading.Thread(target=never.wait, daemon=True).start()
    serve(app)
