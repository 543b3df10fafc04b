"""Functions of the catalog: CREATE, DROP, SHOW and DESCRIBE FUNCTION, and their bodies in the place of calls."""

import textwrap
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from pyspark.sql.functions import udf
from sqlglot import exp
from sqlglot.tokens import TokenType

from local_workspace.sql.lake.commands import namespace, pattern, strings
from local_workspace.sql.lake.context import NOTHING, Lake
from local_workspace.sql.lake.errors import SqlError, syntax, unsupported
from local_workspace.sql.lake.rewriting import CLOSING, OPENING, Call, Edits, parsed, quoted
from local_workspace.sql.lake.words import Words

CLAUSES = ("RETURNS", "LANGUAGE", "DETERMINISTIC", "NOT", "COMMENT", "CONTAINS", "READS", "SQL", "RETURN", "AS")


def _columns(words: Words) -> list[dict[str, Any]]:
    """`(name TYPE [DEFAULT expression] [COMMENT '…'], …)`."""
    words.expect("(")
    columns: list[dict[str, Any]] = []
    while not words.take(")"):
        name = words.token().text
        column: dict[str, Any] = {"name": name, "position": len(columns)}
        column["type_text"] = _text_until(words, (",", ")", "DEFAULT", "COMMENT")).lower()
        if not column["type_text"]:
            raise syntax(f"the type of {name} is missing.")
        if words.take("DEFAULT"):
            column["parameter_default"] = _text_until(words, (",", ")", "COMMENT"))
        if words.take("COMMENT"):
            column["comment"] = words.string()
        columns.append(column)
        words.take(",")
    return columns


def _text_until(words: Words, ends: tuple[str, ...]) -> str:
    """What is written up to one of these words outside of brackets."""
    depth, start, end = 0, None, 0
    while words.peek() and (depth or words.peek() not in ends):
        token = words.token()
        start = token.start if start is None else start
        end = token.end + 1
        # array<int> and map<…> have commas inside.
        depth += (token.token_type in OPENING) + (token.token_type is TokenType.LT)
        depth -= (token.token_type in CLOSING) + (token.token_type is TokenType.GT)
    return words.sql[start:end] if start is not None else ""


def create_function(lake: Lake, words: Words) -> pa.Table:
    """CREATE [OR REPLACE] FUNCTION [IF NOT EXISTS] name (parameters) RETURNS type | TABLE (…) RETURN … | AS $$…$$."""
    words.expect("CREATE")
    replace = words.take("OR", "REPLACE")
    words.expect("FUNCTION")
    if_missing = words.take("IF", "NOT", "EXISTS")
    full_name = words.name(3).lower()
    catalog, schema, name = full_name.split(".")
    info: dict[str, Any] = {"catalog_name": catalog, "schema_name": schema, "name": name, "routine_body": "SQL"}
    info |= {"input_params": {"parameters": _columns(words)}, "sql_path": f"{words.catalog}.{words.schema}"}
    info |= {"parameter_style": "S", "is_deterministic": True, "is_null_call": True, "security_type": "DEFINER"}
    info |= {"sql_data_access": "CONTAINS_SQL", "specific_name": name}
    while words.peek() and "routine_definition" not in info:
        _clause(words, info)
    if "routine_definition" not in info:
        raise syntax("a function needs RETURN or AS.")
    _check(lake, info, words)
    found = lake.catalog.find("function", full_name)
    if found and if_missing:
        return NOTHING
    if found and replace:
        lake.catalog.call("DELETE", "functions", full_name)
    lake.catalog.call("POST", "functions", json={"function_info": info})
    lake.names.add(name)
    return NOTHING


def _clause(words: Words, info: dict[str, Any]) -> None:
    if words.take("RETURNS", "TABLE"):
        info |= {"return_params": {"parameters": _columns(words)}, "data_type": "TABLE_TYPE", "full_data_type": "TABLE"}
    elif words.take("RETURNS"):
        text = _text_until(words, CLAUSES)
        info |= {"data_type": text.partition("(")[0].partition("<")[0].upper(), "full_data_type": text.upper()}
    elif words.take("LANGUAGE"):
        language = words.token().text.upper()
        if language not in ("SQL", "PYTHON"):
            raise unsupported(f"functions in {language}")
        if language == "PYTHON":
            info |= {"routine_body": "EXTERNAL", "external_language": "PYTHON"}
    elif words.take("COMMENT"):
        info["comment"] = words.string()
    elif words.take("DETERMINISTIC") or words.take("NOT", "DETERMINISTIC"):
        info["is_deterministic"] = words.tokens[words.position - 2].text.upper() != "NOT"
    elif words.take("CONTAINS", "SQL") or words.take("READS", "SQL", "DATA"):
        return
    elif words.take("RETURN"):
        info["routine_definition"] = words.sql[words.token().start :].strip().rstrip(";")
        words.position = len(words.tokens)
    elif words.take("AS"):
        info["routine_definition"] = words.token().text.removeprefix("$$").removesuffix("$$").strip("\n")
        words.end()
    else:
        raise syntax(f"'{words.peek()}' is not expected in CREATE FUNCTION.")


def _check(lake: Lake, info: dict[str, Any], words: Words) -> None:
    if info["routine_body"] == "EXTERNAL":
        if "full_data_type" not in info or "return_params" in info:
            raise unsupported("Python functions without a scalar RETURNS type")
        _compiled(info)
        return
    body = parsed(info["routine_definition"] if "return_params" in info else f"SELECT {info['routine_definition']}")
    if "return_params" in info and not isinstance(body, exp.Query):
        raise syntax("a table function returns a query.")
    if "full_data_type" not in info:
        # The type is what the body has: known when nulls of the parameters' types are put in.
        nulls = [f"CAST(NULL AS {p['type_text']})" for p in info["input_params"]["parameters"]]
        record = info | {"full_name": f"{info['catalog_name']}.{info['schema_name']}.{info['name']}"}
        text = inlined(record, Call(info["name"], (0, 0), nulls, {}), lambda sql: sql)
        with lake.sail.session(words.catalog, words.schema) as session:
            kind = session.sql(f"SELECT {text}").schema.fields[0].dataType.simpleString()
        info |= {"data_type": kind.partition("(")[0].partition("<")[0].upper(), "full_data_type": kind.upper()}


def drop_function(lake: Lake, words: Words) -> pa.Table:
    """DROP FUNCTION [IF EXISTS] name."""
    words.expect("DROP", "FUNCTION")
    if_there = words.take("IF", "EXISTS")
    full_name = words.name(3)
    words.end()
    if if_there and lake.catalog.find("function", full_name) is None:
        return NOTHING
    lake.catalog.call("DELETE", "functions", full_name)
    return NOTHING


def show_functions(lake: Lake, words: Words) -> pa.Table:
    """SHOW [USER | SYSTEM | ALL] FUNCTIONS [IN schema] [LIKE '…']: those of a schema, and the engine's own."""
    words.expect("SHOW")
    which = words.one_of("USER", "SYSTEM", "ALL", "FUNCTIONS")
    if which != "FUNCTIONS":
        words.expect("FUNCTIONS")
    catalog, schema = namespace(words, 2).split(".")
    matches = pattern(words)
    names: list[str] = []
    if which != "SYSTEM":
        scope = {"catalog_name": catalog, "schema_name": schema}
        names += [record["full_name"] for record in lake.catalog.call("GET", "functions", params=scope)["functions"]]
    if which != "USER":
        with lake.sail.session(words.catalog, words.schema) as session:
            names += session.sql("SHOW FUNCTIONS").toArrow()["function"].to_pylist()
    return strings("function", rows=[(name,) for name in names if matches(name.rpartition(".")[2])])


def describe_function(lake: Lake, words: Words) -> pa.Table:
    """DESCRIBE FUNCTION [EXTENDED] name."""
    words.one_of("DESCRIBE", "DESC")
    words.expect("FUNCTION")
    extended = words.take("EXTENDED")
    short = words.peek().lower()
    full_name = words.name(3)
    words.end()
    record = lake.catalog.find("function", full_name)
    if record is None:
        with lake.sail.session(words.catalog, words.schema) as session:
            return session.sql(f"DESCRIBE FUNCTION {quoted(short)}").toArrow()
    inputs = [f"{p['name']} {p['type_text'].upper()}" for p in record["input_params"].get("parameters", [])]
    outputs = (record.get("return_params") or {}).get("parameters") or []
    columns = ", ".join(f"{p['name']} {p['type_text'].upper()}" for p in outputs)
    lines = [f"Function: {record['full_name']}", f"Type:     {'TABLE' if outputs else 'SCALAR'}"]
    lines += [f"Input:    {', '.join(inputs) or '()'}"]
    lines += [f"Returns:  {f'TABLE ({columns})' if outputs else record['full_data_type']}"]
    if extended:
        lines += [f"Comment:  {record.get('comment', '')}", f"Owner:    {record['owner']}"]
        lines += [f"Body:     {record['routine_definition']}"]
    return strings("function_desc", rows=[(line,) for line in lines])


def arguments(record: dict[str, Any], call: Call) -> list[str]:
    """The arguments of a call in the order of the function's parameters, defaults put in. Raises SqlError."""
    parameters = record["input_params"].get("parameters", [])
    named = dict(call.named)
    if len(call.positional) > len(parameters):
        raise SqlError(
            "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
            f"The `{record['name']}` requires {len(parameters)} parameters but the actual number is "
            f"{len(call.positional)}.",
            "42605",
        )
    values = []
    for position, parameter in enumerate(parameters):
        if position < len(call.positional):
            value = call.positional[position]
        else:
            value = named.pop(parameter["name"].lower(), parameter.get("parameter_default"))
        if value is None:
            raise SqlError(
                "REQUIRED_PARAMETER_NOT_FOUND",
                f"`{record['name']}` needs its parameter `{parameter['name']}`.",
                "4274K",
            )
        values.append(f"CAST({value} AS {parameter['type_text']})")
    if named:
        raise SqlError(
            "UNRECOGNIZED_PARAMETER_NAME", f"`{record['name']}` has no parameter `{next(iter(named))}`.", "4274K"
        )
    return values


def inlined(record: dict[str, Any], call: Call, qualified: Callable[[str], str]) -> str:
    """A SQL function's body with the arguments in the place of its parameters. Raises SqlError."""
    names = [p["name"].lower() for p in record["input_params"].get("parameters", [])]
    values = dict(zip(names, arguments(record, call), strict=True))
    outputs = (record.get("return_params") or {}).get("parameters")
    prefix = "" if outputs else "SELECT "
    sql = qualified(prefix + record["routine_definition"])
    edits = Edits(sql)
    for column in parsed(sql).find_all(exp.Column):
        name = column.name.lower()
        if name in values and (not column.table or column.table.lower() == record["name"]):
            first, last = column.parts[0].meta, column.parts[-1].meta
            edits.replace((first["start"], last["end"] + 1), values[name])
    body = edits.applied().removeprefix(prefix)
    if not outputs:
        return f"CAST(({body}\n) AS {record['full_data_type']})" if record.get("full_data_type") else f"({body}\n)"
    columns = ", ".join(quoted(p["name"]) for p in outputs)
    casts = ", ".join(f"CAST({quoted(p['name'])} AS {p['type_text']}) AS {quoted(p['name'])}" for p in outputs)
    # The statement is the function's own; only names and types are put around it.
    return f"(SELECT {casts} FROM (\n{body}\n) AS s({columns}))"


def _compiled(record: dict[str, Any]) -> Callable[..., Any]:
    names = [p["name"] for p in record["input_params"].get("parameters", [])]
    source = (
        f"def handler({', '.join(names)}):\n{textwrap.indent(textwrap.dedent(record['routine_definition']), '    ')}"
    )
    scope: dict[str, Any] = {}
    try:
        exec(compile(source, record["name"], "exec"), scope)  # noqa: S102 (the user's own function, as on Spark)
    except SyntaxError as error:
        raise SqlError("UDF_USER_CODE_ERROR.COMPILE", f"{record['name']}: {error}", "39000") from error
    return scope["handler"]


def python_udf(record: dict[str, Any]) -> Any:
    """A Python function of the catalog as one that Sail can call. Raises SqlError."""
    return udf(_compiled(record), record["full_data_type"].lower())
