"""The inside of a process that runs users' code: cells, `spark`, `dbutils`, `display`, and a record of what they did.

A task of a job runs in `python -m local_workspace.runtime.task <folder>`. Anything else that runs users' code builds
`Shell(Context.from_environment(), folder)` in a process of its own and calls `shell.run(source)` once per cell.
"""
