"""Errors of statements: Databricks error conditions, and the engines' messages sorted into them once.

Sail and delta-rs name few conditions themselves, so their messages are the only thing to go by; what matches nothing
stays an honest INTERNAL_ERROR with the engine's text.
"""

import re


class SqlError(Exception):
    """A statement failed: an error condition of Databricks SQL, its text and SQLSTATE."""

    def __init__(self, condition: str, message: str, sqlstate: str):
        super().__init__(f"[{condition}] {message} SQLSTATE: {sqlstate}")
        self.condition = condition
        self.sqlstate = sqlstate


def unsupported(what: str) -> SqlError:
    """The error for what the local workspace does not have."""
    return SqlError("UNSUPPORTED_FEATURE", f"The local workspace does not support {what}.", "0A000")


def syntax(message: str) -> SqlError:
    """The error for a statement that cannot be read."""
    return SqlError("PARSE_SYNTAX_ERROR", f"Syntax error: {message}", "42601")


def table_not_found(name: str) -> SqlError:
    """The error for a table that the catalog does not have."""
    quoted = ".".join(f"`{part}`" for part in name.split("."))
    return SqlError(
        "TABLE_OR_VIEW_NOT_FOUND",
        f"The table or view {quoted} cannot be found. Verify the spelling and correctness of the schema and catalog.",
        "42P01",
    )


def not_a_table(name: str) -> SqlError:
    """The error for a view where only a table can be."""
    quoted = ".".join(f"`{part}`" for part in name.split("."))
    return SqlError("EXPECT_TABLE_NOT_VIEW.NO_ALTERNATIVE", f"{quoted} is a view, and a table is needed here.", "42809")


CONDITIONS = [
    # Sail lost a race for a version, or listed the log while another writer made one.
    (r"Failed to commit transaction|expected version 0, found \d+", "DELTA_CONCURRENT_WRITE", "2D521"),
    (
        r"\[(?!INTERNAL_ERROR)(?P<condition>[A-Z][A-Z_.]+)\] (?P<text>.*?)(?: SQLSTATE: (?P<sqlstate>\w{5}))?$",
        "",
        "42000",
    ),
    (r"Placeholder '[:$]?(?P<name>\w+)' was not provided", "UNBOUND_SQL_PARAMETER", "42P02"),
    (
        r"found .* at \d+:\d+|expected one statement|expected .* found|expected something else|found end of input",
        "PARSE_SYNTAX_ERROR",
        "42601",
    ),
    (r'Identifier\("(?P<column>[^"]+)"\)\]\) is missing', "UNRESOLVED_COLUMN.WITH_SUGGESTION", "42703"),
    (
        r"cannot resolve attribute|is missing from the schema|column not found|No field named",
        "UNRESOLVED_COLUMN",
        "42703",
    ),
    (r"(Database|Schema|Namespace|Catalog) not found", "SCHEMA_NOT_FOUND", "42704"),
    (r"unknown (table )?function", "UNRESOLVED_ROUTINE", "42883"),
    (r"Placeholder '\?' was not provided", "UNBOUND_SQL_PARAMETER", "42P02"),
    (
        r"Missing commit file|[Nn]o commits found|[Vv]ersion.*(not found|does not exist)",
        "DELTA_VERSION_NOT_FOUND",
        "22003",
    ),
    (r"No version of the Delta table exists at or before", "DELTA_TIMESTAMP_EARLIER_THAN_COMMIT_RETENTION", "42816"),
    (r"[Dd]ivi(de|sion) by zero", "DIVIDE_BY_ZERO", "22012"),
    (r"Cannot cast string|Error parsing|Cast error|Error during cast", "CAST_INVALID_INPUT", "22018"),
    (r"overflow", "ARITHMETIC_OVERFLOW", "22003"),
    (r"input schema for INSERT has|INSERT is missing value", "INSERT_COLUMN_ARITY_MISMATCH", "21S01"),
    (r"Schema mismatch|column types must match|Unsupported CAST|Cannot cast", "DATATYPE_MISMATCH", "42K09"),
    (r"rows? failed validation check", "DELTA_REPLACE_WHERE_MISMATCH", "44000"),
    (r"[Cc]onflict|Metadata changed since last commit|concurrent", "DELTA_CONCURRENT_WRITE", "2D521"),
    (
        r"Physical plan does not support logical expression (InSubquery|Exists|ScalarSubquery)",
        "DELTA_UNSUPPORTED_SUBQUERY",
        "0AKDC",
    ),
    (r"not supported|[Uu]nsupported|not implemented|not yet implemented", "UNSUPPORTED_FEATURE", "0A000"),
    (r"ScalarSubquery|more than one row", "SCALAR_SUBQUERY_TOO_MANY_ROWS", "21000"),
]
TABLE_MISSING = re.compile(r"TABLE_OR_VIEW_NOT_FOUND|Table not found")


def from_sail(error: Exception, names: list[str]) -> SqlError:
    """An error of Sail or delta-rs as an error condition; `names` are the tables the statement reads or writes."""
    text = str(error).strip()
    if TABLE_MISSING.search(text):
        mentioned = [name for name in names if name.rsplit(".", 1)[-1] in text]
        return table_not_found((mentioned or names or [text.rsplit(" ", 1)[-1]])[0])
    for pattern, condition, sqlstate in CONDITIONS:
        if found := re.search(pattern, text, re.DOTALL):
            named = found.groupdict()
            if "column" in named:
                text = f"A column, variable or function parameter with name `{named['column']}` cannot be resolved."
            if "condition" in named:
                return SqlError(named["condition"], named["text"], named["sqlstate"] or sqlstate)
            return SqlError(condition, text, sqlstate)
    return SqlError("INTERNAL_ERROR", text, "XX000")
