"""Reading a statement by sqlglot and changing it in place: what is not replaced stays as it was written.

sqlglot says what a name is (a table, an expression of WITH, a call); its own spelling of a statement is never run,
for it changes what it does not know (`get_json_object` becomes `col:path`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from local_workspace.sql.lake.errors import syntax

DIALECT = "databricks"
OPENING = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)
CLOSING = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)


def quoted(*names: str) -> str:
    """Identifiers as SQL, joined by periods."""
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)


def parsed(sql: str) -> exp.Expr:
    """The statement's tree. Raises SqlError."""
    try:
        return sqlglot.parse_one(sql, dialect=DIALECT)
    except SqlglotError as error:
        raise syntax(str(error).splitlines()[0]) from error


@dataclass
class Edits:
    """Replacements in a text, put in together; one inside another waits for the next round."""

    sql: str
    _edits: dict[tuple[int, int], str] = field(default_factory=dict)

    def replace(self, span: tuple[int, int], text: str) -> None:
        """Put `text` in the place of `span`, a start and an end (exclusive)."""
        self._edits[span] = text

    def applied(self) -> str:
        """The text with the innermost replacements."""
        pieces, position = [], 0
        for start, end in sorted(self._edits):
            if any(start <= s and e <= end and (s, e) != (start, end) for s, e in self._edits):
                continue
            pieces += [self.sql[position:start], self._edits[start, end]]
            position = end
        return "".join([*pieces, self.sql[position:]])


@dataclass(frozen=True)
class Call:
    """A call as it is written: its name, where it stands, and its arguments."""

    name: str
    span: tuple[int, int]
    positional: list[str]
    named: dict[str, str]


def table_span(table: exp.Table) -> tuple[int, int]:
    """Where a table's name stands, without alias and version."""
    names = [part for part in table.parts if "start" in part.meta]
    return names[0].meta["start"], names[-1].meta["end"] + 1


def call_at(sql: str, tokens: Sequence[Token], start: int) -> Call:
    """The call whose name begins at `start`. Raises SqlError when its parentheses do not match."""
    first = next(i for i, token in enumerate(tokens) if token.start == start)
    opening = next(i for i in range(first, len(tokens)) if tokens[i].token_type is TokenType.L_PAREN)
    depth, pieces, begun = 0, [], tokens[opening].end + 1
    for token in tokens[opening:]:
        depth += (token.token_type in OPENING) - (token.token_type in CLOSING)
        if depth == 0 or (depth == 1 and token.token_type is TokenType.COMMA):
            pieces.append(sql[begun : token.start].strip())
            begun = token.end + 1
        if depth == 0:
            name = sql[start : tokens[opening].start].strip().replace("`", "")
            return Call(name, (start, token.end + 1), *_arguments(pieces))
    raise syntax("a parenthesis is not closed.")


def _arguments(pieces: list[str]) -> tuple[list[str], dict[str, str]]:
    positional: list[str] = []
    named: dict[str, str] = {}
    for piece in pieces:
        name, arrow, value = piece.partition("=>")
        if arrow and name.strip().isidentifier():
            named[name.strip().lower()] = value.strip()
        elif piece:
            positional.append(piece)
    return positional, named


def is_cte(table: exp.Table) -> bool:
    """Whether a table's name is that of an expression of a WITH around it."""
    if table.args.get("db"):
        return False
    name, node = table.name.lower(), table
    below: exp.Expr = table
    while node := below.parent:  # type: ignore[assignment]
        if isinstance(node, exp.With):
            # Inside WITH only the expressions before this one are known, unless it is recursive.
            before = node.expressions if node.args.get("recursive") else node.expressions[: below.index]
            if any(cte.alias.lower() == name for cte in before):
                return True
            below = node.parent or node  # its statement's own WITH is this one
            continue
        with_ = node.args.get("with_")
        if with_ and any(cte.alias.lower() == name for cte in with_.expressions):
            return True
        below = node
    return False


def tables(tree: exp.Expr) -> Iterator[exp.Table]:
    """The tables and table functions that a statement names, those of WITH left out."""
    for table in tree.find_all(exp.Table):
        if not is_cte(table):
            yield table


def is_target(table: exp.Table) -> bool:
    """Whether the statement changes this table."""
    parent: exp.Expr | None = table.parent
    child: exp.Expr = table
    if isinstance(parent, exp.Schema):
        child, parent = parent, parent.parent
    changes = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Alter)
    return isinstance(parent, changes) and parent.this is child


def is_definition(table: exp.Table) -> bool:
    """Whether the table is one that CREATE makes, or takes over as a whole."""
    parent = table.parent.parent if isinstance(table.parent, exp.Schema) else table.parent
    return isinstance(parent, (exp.Create, exp.LikeProperty, exp.Clone))


def outputs(tree: exp.Expr) -> set[int]:
    """Where the calls and paths begin that are, whole, columns of a SELECT without a name of their own."""
    begins = set()
    for select in tree.find_all(exp.Select):
        for item in select.expressions:
            whole = item.this if isinstance(item, exp.Cast) else item
            last = whole.expression if isinstance(whole, exp.Dot) else whole
            if isinstance(whole, exp.JSONExtract) or (whole is item and isinstance(last, exp.Anonymous)):
                starts = [node.meta["start"] for node in item.walk() if "start" in node.meta]
                begins |= {min(starts)} if starts else set()
    return begins


def anonymous_calls(tree: exp.Expr) -> Iterator[tuple[str, int]]:
    """Calls of functions that sqlglot does not know: full name as written, and where it begins."""
    for call in tree.find_all(exp.Anonymous):
        names, start = [call.name], call.meta.get("start")
        if start is None:
            continue
        node: exp.Expr = call
        # main.s.f(1) is Dot(Dot(main, s), f(1)).
        if isinstance(call.parent, exp.Dot) and call.parent.expression is call:
            node = call.parent.this
            qualifiers = [part for part in node.find_all(exp.Identifier) if "start" in part.meta]
            qualifiers.sort(key=lambda part: part.meta["start"])
            if qualifiers:
                names, start = [part.name for part in qualifiers] + names, qualifiers[0].meta["start"]
        elif isinstance(call.parent, exp.Table) and call.parent.this is call:
            parts = [call.parent.args.get(key) for key in ("catalog", "db")]
            qualifiers = [part for part in parts if part is not None]
            if qualifiers:
                names, start = [part.name for part in qualifiers] + names, qualifiers[0].meta["start"]
        yield ".".join(names), start
