"""The path syntax `column:path`, which Sail lacks, said by functions.

Of a VARIANT it is a VARIANT, of a STRING the text of its JSON. Sail knows the columns' types and refuses the function
for the other one; so a statement is read in each way there is, the likeliest first.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlglot.tokens import Token, TokenType

from local_workspace.sql.lake.errors import unsupported
from local_workspace.sql.lake.parameters import colons, ends_an_expression, string_literal
from local_workspace.sql.lake.rewriting import CLOSING, OPENING, outputs, parsed, quoted

MISREAD = re.compile(r"VariantType|json_as_text|expected a string, got Struct")
MAX_COLUMNS = 4
"""How many columns with paths a statement can have: each doubles the ways to read it."""
NAME = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True)
class Path:
    """A path expression: where it stands, its column, its JSON path, the type it is cast to, whether it ends there."""

    start: int
    end: int
    column: str
    path: str
    cast: str
    whole: bool

    @property
    def name(self) -> str:
        """What its column in a result is called: the last name of the path."""
        return NAME.findall(self.path)[-1]

    def said(self, kind: str) -> str:
        """The path by a function for a column of this kind."""
        if kind == "string":
            text = f"get_json_object({self.column}, {string_literal(self.path)})"
            return f"CAST({text} AS {self.cast})" if self.cast else text
        kind = f", {string_literal(self.cast)}" if self.cast else ""
        return f"variant_get({self.column}, {string_literal(self.path)}{kind})"


def readings(sql: str, tokens: Sequence[Token]) -> Iterator[str]:
    """The statement with every path said by a function, in each way to read it; itself when it has none.

    Raises SqlError.
    """
    found = [_path(sql, tokens, colon) for colon, _word, path in colons(sql, tokens) if path]
    if not found:
        yield sql
        return
    columns = list(dict.fromkeys(path.column for path in found))
    if len(columns) > MAX_COLUMNS:
        raise unsupported(f"the path syntax of more than {MAX_COLUMNS} columns in one statement")
    unnamed = outputs(parsed(sql))
    for kinds in itertools.product(("variant", "string"), repeat=len(columns)):
        kind = dict(zip(columns, kinds, strict=True))
        pieces, position = [], 0
        for path in found:
            name = f" AS {quoted(path.name)}" if path.whole and path.start in unnamed else ""
            pieces += [sql[position : path.start], path.said(kind[path.column]), name]
            position = path.end
        yield "".join([*pieces, sql[position:]])


def misread(error: Exception) -> bool:
    """Whether Sail refused a statement because a path was taken for one of the other type."""
    return MISREAD.search(str(error)) is not None


def _path(sql: str, tokens: Sequence[Token], colon: Token) -> Path:
    at = tokens.index(colon)
    first = _begin(tokens, at - 1)
    last = at + 1
    path = f"$.{tokens[last].text}"
    while last + 1 < len(tokens):
        token = tokens[last + 1]
        if token.token_type is TokenType.DOT and last + 2 < len(tokens):
            path += f".{tokens[last + 2].text}"
            last += 2
        elif [t.token_type for t in (token, *tokens[last + 3 : last + 4])] == [
            TokenType.L_BRACKET,
            TokenType.R_BRACKET,
        ]:
            inside = tokens[last + 2]
            path += f"['{inside.text}']" if inside.token_type is TokenType.STRING else f"[{inside.text}]"
            last += 3
        else:
            break
    cast = ""
    following = [token.text for token in tokens[last + 1 : last + 4]]
    if following[:1] == ["::"] and len(following) > 1 and following[2:] not in (["("], ["<"]):
        cast = following[1].lower()
        last += 2
    after = tokens[last + 1].text.upper() if last + 1 < len(tokens) else ""
    column = sql[tokens[first].start : tokens[at - 1].end + 1]
    return Path(tokens[first].start, tokens[last].end + 1, column, path, cast, after in ("", ",", ")", "FROM"))


def _begin(tokens: Sequence[Token], last: int) -> int:
    """The first token of the expression that ends at `last`: names with periods, and what brackets hold."""
    at = last
    while True:
        if tokens[at].token_type in CLOSING:
            depth = 0
            while True:
                depth += (tokens[at].token_type in CLOSING) - (tokens[at].token_type in OPENING)
                if depth == 0:
                    break
                at -= 1
            # parse_json(…) and a[0] begin before their brackets.
            if at > 0 and ends_an_expression(tokens[at - 1]) and tokens[at - 1].end + 1 == tokens[at].start:
                at -= 1
                continue
            return at
        if at > 1 and tokens[at - 1].token_type is TokenType.DOT:
            at -= 2
            continue
        return at
