"""A Databricks workspace on this machine: the REST API on loopback, real engines behind it."""
