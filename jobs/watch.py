# Databricks notebook source
# MAGIC %md
# MAGIC # Is the promoted prompt still good?
# MAGIC Compares live decisions since production's last move with those before it. A significant fall takes the move
# MAGIC back, and then this run fails on purpose: the platform tells people about failures.

# COMMAND ----------

import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd().parent))  # the release that this notebook belongs to

# COMMAND ----------

dbutils.widgets.text("environment", "")  # such as SOTA_TARGET=dev SOTA_SCHEMA=mine
dbutils.widgets.text("agent", "fraud_detector")

# COMMAND ----------

from lib.jobs import task_context
from lib.promotion import describe, watch

outcome = watch(task_context(dbutils.widgets.get("environment")), dbutils.widgets.get("agent"))
print(describe(outcome))

# COMMAND ----------

if outcome.decision == "rolled back":
    raise RuntimeError(describe(outcome))
dbutils.notebook.exit(describe(outcome))
