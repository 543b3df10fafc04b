# Databricks notebook source
# MAGIC %md
# MAGIC # Challenger against production
# MAGIC Both answer the holdout rows, which no optimiser has seen. On `promote` the gate moves the alias; the verdict is
# MAGIC kept as a file and in MLflow.

# COMMAND ----------

import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd().parent))  # the release that this notebook belongs to

# COMMAND ----------

dbutils.widgets.text("environment", "")  # such as SOTA_TARGET=dev SOTA_SCHEMA=mine
dbutils.widgets.text("agent", "fraud_detector")

# COMMAND ----------

from lib.jobs import task_context
from lib.promotion import ab_test, describe

outcome = ab_test(task_context(dbutils.widgets.get("environment")), dbutils.widgets.get("agent"))

# COMMAND ----------

dbutils.notebook.exit(describe(outcome))
