# Databricks notebook source
# MAGIC %md
# MAGIC # How the night went
# MAGIC Runs whatever happened before it, and ends as the night did: the platform mails by how the last task ended.

# COMMAND ----------

import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd().parent))  # the release that this notebook belongs to

# COMMAND ----------

dbutils.widgets.text("environment", "")  # such as SOTA_TARGET=dev SOTA_SCHEMA=mine
dbutils.widgets.text("run_id", "")

# COMMAND ----------

from lib.jobs import night_report, task_context

report = night_report(task_context(dbutils.widgets.get("environment")), int(dbutils.widgets.get("run_id")))
print(report.text)

# COMMAND ----------

if report.failed:
    raise RuntimeError(f"{', '.join(report.failed)} failed tonight\n{report.text}")
dbutils.notebook.exit(report.text)
