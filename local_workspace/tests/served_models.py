"""Models from code for the tests of serving: MLflow copies these lines into the model."""

SCORES = '''
import os, subprocess, sys

import mlflow
import pandas as pd


class Scores(mlflow.pyfunc.PythonModel):
    """Twice the amount; `what` may ask for something else."""

    def load_context(self, context):
        self.helper = subprocess.Popen(["sleep", "600"])
        print("loaded", os.environ.get("GREETING"), flush=True)

    def predict(self, context, model_input, params=None):
        what = list(model_input.get("what", []))
        if "exit" in what:
            os._exit(3)
        if "fail" in what:
            raise KeyError("no such feature")
        scores = model_input["amount"].astype(float) * FACTOR
        scores[model_input["amount"] < 0] = float("nan")
        return pd.DataFrame({"score": scores, "greeting": os.environ.get("GREETING"), "pid": os.getpid()})


mlflow.models.set_model(Scores())
'''

AGENT = '''
import mlflow
from mlflow.pyfunc import ResponsesAgent
from mlflow.types.responses import ResponsesAgentResponse, ResponsesAgentStreamEvent


class Echo(ResponsesAgent):
    """Says the last input again."""

    def predict(self, request):
        item = self.create_text_output_item(text=request.input[-1].content, id="msg_1")
        return ResponsesAgentResponse(output=[item], id="resp_1")

    def predict_stream(self, request):
        for word in request.input[-1].content.split():
            yield ResponsesAgentStreamEvent(**self.create_text_delta(delta=word, item_id="msg_1"))
        item = self.create_text_output_item(text=request.input[-1].content, id="msg_1")
        yield ResponsesAgentStreamEvent(type="response.output_item.done", item=item)


mlflow.models.set_model(Echo())
'''

SLOW = """
import time

import mlflow


class Slow(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        time.sleep(600)

    def predict(self, context, model_input, params=None):
        return model_input


mlflow.models.set_model(Slow())
"""

BROKEN = """
import mlflow


class Broken(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        raise OSError("the feature store cannot be reached")

    def predict(self, context, model_input, params=None):
        return model_input


mlflow.models.set_model(Broken())
"""
