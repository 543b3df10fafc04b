# Databricks notebook source
# MAGIC %md
# MAGIC # Improve a prompt with DSPy
# MAGIC Tries candidates on the validation rows until the optimiser is done or the budget is spent. The best text
# MAGIC becomes challenger when it is better than production's; what it becomes after that, the A/B test decides.

# COMMAND ----------

import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd().parent))  # the release that this notebook belongs to

# COMMAND ----------

dbutils.widgets.text("environment", "")  # such as SOTA_TARGET=dev SOTA_SCHEMA=mine
dbutils.widgets.text("agent", "fraud_detector")
for name in ("optimizer", "budget_money", "budget_tokens"):  # empty: what sota_config.yaml says
    dbutils.widgets.text(name, "")

# COMMAND ----------

from lib.jobs import task_context
from lib.optimize_dspy import optimise
from lib.studies import open_study

given = {name: dbutils.widgets.get(name) or None for name in ("optimizer", "budget_money", "budget_tokens")}
context = task_context(dbutils.widgets.get("environment"))
with open_study(context, dbutils.widgets.get("agent"), **given) as study:
    found = optimise(study)

# COMMAND ----------

import pandas as pd

spending = study.spending
display(pd.DataFrame(study.run.rows))
dbutils.notebook.exit(f"{found.reason}; spent {spending.spent_money:.4f} in money, {spending.spent_tokens} tokens")
