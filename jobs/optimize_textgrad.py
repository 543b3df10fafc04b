# Databricks notebook source
# MAGIC %md
# MAGIC # Improve a prompt with textual gradients
# MAGIC Lets a model criticise the instructions where feedback says they failed, and rewrite them. The best variant
# MAGIC becomes challenger when it is better than production's; what it becomes after that, the A/B test decides.

# COMMAND ----------

import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd().parent))  # the release that this notebook belongs to

# COMMAND ----------

dbutils.widgets.text("environment", "")  # such as SOTA_TARGET=dev SOTA_SCHEMA=mine
dbutils.widgets.text("agent", "fraud_detector")
dbutils.widgets.text("source", "feedback")  # or `examples`
for name in ("budget_money", "budget_tokens"):  # empty: what sota_config.yaml says
    dbutils.widgets.text(name, "")

# COMMAND ----------

from lib.jobs import task_context
from lib.optimize_textgrad import open_textgrad_study, optimise

agent, source = dbutils.widgets.get("agent"), dbutils.widgets.get("source")
given = {name: dbutils.widgets.get(name) or None for name in ("budget_money", "budget_tokens")}
context = task_context(dbutils.widgets.get("environment"))
with open_textgrad_study(context, agent, source, **given) as (study, cases):
    found = optimise(study, cases)

# COMMAND ----------

import pandas as pd

spending = study.spending
display(pd.DataFrame(study.run.rows))
dbutils.notebook.exit(f"{found.reason}; spent {spending.spent_money:.4f} in money, {spending.spent_tokens} tokens")
