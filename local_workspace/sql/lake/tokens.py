"""A statement's tokens by sqlglot's Databricks dialect."""

from typing import ClassVar

from sqlglot.dialects import Databricks
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from local_workspace.sql.lake.errors import syntax

PLANS = ("EXTENDED", "FORMATTED", "CODEGEN", "COST", "LOGICAL")


class Tokenizer(Databricks.Tokenizer):
    """Databricks tokens, all of them: sqlglot's own leaves what follows OPTIMIZE or SHOW in one piece."""

    COMMANDS: ClassVar[set[TokenType]] = set()
    # The bodies of Python functions: $$ … $$.
    HEREDOC_STRINGS: ClassVar[list[str | tuple[str, str]]] = ["$"]


def tokens_of(sql: str) -> list[Token]:
    """The tokens of exactly one statement, its last `;` left out. Raises SqlError."""
    try:
        tokens = Tokenizer(dialect="databricks").tokenize(sql)
    except SqlglotError as error:
        raise syntax(str(error).splitlines()[0]) from error
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    if any(token.token_type is TokenType.SEMICOLON for token in tokens):
        raise syntax("only one statement can be run at a time.")
    return tokens


def explained(sql: str, tokens: list[Token]) -> int:
    """Where the query of EXPLAIN begins; 0 in any other statement."""
    if not tokens or tokens[0].text.upper() != "EXPLAIN":
        return 0
    return next((token.start for token in tokens[1:] if token.text.upper() not in PLANS), len(sql))
