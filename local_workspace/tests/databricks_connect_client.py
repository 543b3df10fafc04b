"""What the test of Databricks Connect runs in an environment of its own: its findings as JSON on standard output."""

import json
import sys

from databricks.connect import DatabricksSession
from pyspark.errors import AnalysisException
from pyspark.sql import functions as F


def findings() -> dict:
    """What a session at SPARK_REMOTE gives."""
    spark = DatabricksSession.builder.getOrCreate()
    found = {}
    spark.sql("CREATE SCHEMA IF NOT EXISTS main.dbconnect")
    people = spark.createDataFrame([(1, "Ada"), (2, "Alan")], "id long, name string")
    people.write.saveAsTable("main.dbconnect.people")
    spark.sql("INSERT INTO main.dbconnect.people (id) VALUES (:id)", {"id": 3})
    found["rows"] = [list(row) for row in spark.table("main.dbconnect.people").orderBy("id").collect()]
    found["operations"] = [row.operation for row in spark.sql("DESCRIBE HISTORY main.dbconnect.people").collect()]
    spark.sql("CREATE VIEW main.dbconnect.names AS SELECT name FROM main.dbconnect.people")
    found["view"] = spark.table("main.dbconnect.names").count()
    people.writeTo("main.dbconnect.others").createOrReplace()
    found["user"] = spark.sql("SELECT current_user()").collect()[0][0]
    doubled = F.udf(lambda number: number * 2, "long")
    found["udf"] = [row.d for row in spark.range(3).select(doubled("id").alias("d")).orderBy("d").collect()]
    found["pandas"] = list(spark.table("main.dbconnect.others").toPandas().columns)
    spark.catalog.setCurrentDatabase("dbconnect")
    found["here"] = [spark.catalog.currentCatalog(), spark.catalog.currentDatabase()]
    try:
        spark.sql("SELECT nope FROM people")
    except AnalysisException as error:
        found["error"] = str(error)
    spark.sql("DROP SCHEMA main.dbconnect CASCADE")
    spark.stop()
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(findings()))
