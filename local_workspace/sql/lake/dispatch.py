"""Which command does which statement, and which statements are refused: by their first words."""

from local_workspace.sql.lake import commands, copying, files, functions, maintenance, securables, shows, views

COMMANDS: dict[tuple[str, ...], commands.Command] = {
    (): commands.empty,
    ("CREATE", "CATALOG"): commands.create,
    ("CREATE", "SCHEMA"): commands.create,
    ("CREATE", "DATABASE"): commands.create,
    ("CREATE", "VOLUME"): commands.create,
    ("CREATE", "VIEW"): views.create_view,
    ("CREATE", "OR", "REPLACE", "VIEW"): views.create_view,
    ("CREATE", "FUNCTION"): functions.create_function,
    ("CREATE", "OR", "REPLACE", "FUNCTION"): functions.create_function,
    ("DROP", "CATALOG"): commands.drop,
    ("DROP", "SCHEMA"): commands.drop,
    ("DROP", "DATABASE"): commands.drop,
    ("DROP", "VOLUME"): commands.drop,
    ("DROP", "TABLE"): commands.drop,
    ("DROP", "VIEW"): views.drop_view,
    ("DROP", "FUNCTION"): functions.drop_function,
    ("ALTER", "VIEW"): views.alter_view,
    ("ALTER", "CATALOG"): securables.alter,
    ("ALTER", "SCHEMA"): securables.alter,
    ("ALTER", "DATABASE"): securables.alter,
    ("ALTER", "VOLUME"): securables.alter,
    ("USE",): commands.use,
    ("COMMENT", "ON"): securables.comment,
    ("GRANT",): commands.grant,
    ("REVOKE",): commands.grant,
    ("SHOW", "CATALOGS"): commands.show_catalogs,
    ("SHOW", "SCHEMAS"): commands.show_schemas,
    ("SHOW", "DATABASES"): commands.show_schemas,
    ("SHOW", "TABLES"): commands.show_tables,
    ("SHOW", "VIEWS"): views.show_views,
    ("SHOW", "VOLUMES"): commands.show_volumes,
    ("SHOW", "GRANTS"): commands.show_grants,
    ("SHOW", "COLUMNS"): shows.show_columns,
    ("SHOW", "TBLPROPERTIES"): shows.show_properties,
    ("SHOW", "PARTITIONS"): shows.show_partitions,
    ("SHOW", "CREATE", "TABLE"): shows.show_create_table,
    ("SHOW", "FUNCTIONS"): functions.show_functions,
    ("SHOW", "USER", "FUNCTIONS"): functions.show_functions,
    ("SHOW", "SYSTEM", "FUNCTIONS"): functions.show_functions,
    ("SHOW", "ALL", "FUNCTIONS"): functions.show_functions,
    ("OPTIMIZE",): maintenance.optimize,
    ("VACUUM",): maintenance.vacuum,
    ("RESTORE",): maintenance.restore,
    ("TRUNCATE", "TABLE"): maintenance.truncate,
    ("COPY", "INTO"): copying.copy_into,
    ("LIST",): files.list_files,
    ("SET",): shows.show_settings,
} | {
    (describe, *what): command
    for describe in ("DESCRIBE", "DESC")
    for what, command in {
        (): shows.describe_table,
        ("HISTORY",): maintenance.describe_history,
        ("DETAIL",): maintenance.describe_detail,
        ("CATALOG",): commands.describe_securable,
        ("SCHEMA",): commands.describe_securable,
        ("DATABASE",): commands.describe_securable,
        ("VOLUME",): commands.describe_securable,
        ("FUNCTION",): functions.describe_function,
    }.items()
}
REFUSED: dict[tuple[str, ...], str] = {
    ("CREATE", kind): "" for kind in ("EXTERNAL", "MATERIALIZED", "STREAMING", "CONNECTION", "SHARE", "POLICY")
}
REFUSED |= {
    ("CREATE", *replace, temporary): "temporary views and functions outlive no statement here: each has a session of "
    "its own. Use CREATE VIEW, or WITH in the query"
    for replace in ((), ("OR", "REPLACE"))
    for temporary in ("TEMP", "TEMPORARY")
}
REFUSED |= {("CREATE", "OR", "REPLACE", kind): "" for kind in ("MATERIALIZED", "STREAMING")}
REFUSED |= {("DROP", kind): "" for kind in ("MATERIALIZED", "TEMPORARY", "CONNECTION", "SHARE")}
REFUSED |= {("INSERT", "OVERWRITE", *local, "DIRECTORY"): "" for local in ((), ("LOCAL",))}
REFUSED |= {(verb, "WITH", "SCHEMA", "EVOLUTION"): "" for verb in ("MERGE", "INSERT")}
REFUSED |= {
    (verb,): ""
    for verb in [
        "ANALYZE",
        "BEGIN",
        "CACHE",
        "CALL",
        "CLEAR",
        "DECLARE",
        "EXECUTE",
        "FSCK",
        "GENERATE",
        "LOAD",
        "MSCK REPAIR",
        "REFRESH",
        "REORG",
        "RESET",
        "SYNC",
        "UNCACHE",
        "UNDROP",
        "CONVERT",
        "PUT",
        "GET",
        "REMOVE",
        "ADD JAR",
        "ROLLBACK",
        "COMMIT",
        "START",
        "APPLY",
    ]
}
COMMANDS |= {leading: commands.refusal(leading, reason) for leading, reason in REFUSED.items()}


def command_of(leading: list[str]) -> commands.Command | None:
    """The command for a statement's first words in upper case, if it is not one for Sail."""
    for length in range(min(len(leading), 4), -1, -1):
        if (length or not leading) and (command := COMMANDS.get(tuple(leading[:length]))):
            return command
    return None
