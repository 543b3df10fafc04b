"""The baseline of `/execute`: a bare FastAPI hello on uvicorn."""

import os

import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.get("/health")
async def health() -> dict[str, str]:
    """Tells that the server is up."""
    return {"status": "ok"}


@app.post("/hello")
async def hello() -> dict[str, str]:
    """The smallest JSON answer."""
    return {"hello": "world"}


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["DATABRICKS_APP_PORT"]), log_level="warning", access_log=False)
