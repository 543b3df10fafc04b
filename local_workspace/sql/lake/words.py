"""A cursor over a statement's tokens, for the commands whose grammar sqlglot leaves out."""

from collections.abc import Sequence

from sqlglot.tokens import Token, TokenType

from local_workspace.sql.lake.errors import syntax


class Words:
    """Reads a statement word by word; `catalog` and `schema` complete short names."""

    def __init__(self, sql: str, tokens: Sequence[Token], catalog: str, schema: str):
        self.sql = sql
        self.tokens = tokens
        self.catalog = catalog
        self.schema = schema
        self.position = 0

    def peek(self) -> str:
        """The next token in upper case; empty at the end."""
        return self.tokens[self.position].text.upper() if self.position < len(self.tokens) else ""

    def verb(self) -> str:
        """What the statement does: its first word, or that after the expressions of a leading WITH."""
        depth = 0
        for token in self.tokens:
            depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
            if depth == 0 and (word := token.text.upper()) in ("INSERT", "UPDATE", "DELETE", "MERGE"):
                return word
            if token is self.tokens[0] and token.text.upper() != "WITH":
                return token.text.upper()
        return "WITH"

    def take(self, *words: str) -> bool:
        """Step over these words if they come next."""
        following = [token.text.upper() for token in self.tokens[self.position : self.position + len(words)]]
        if following != list(words):
            return False
        self.position += len(words)
        return True

    def expect(self, *words: str) -> None:
        """Step over these words. Raises SqlError when something else comes."""
        if not self.take(*words):
            raise syntax(f"{' '.join(words)} is expected at or near '{self.peek() or 'end of statement'}'.")

    def one_of(self, *words: str) -> str:
        """The next word, which must be one of these."""
        word = self.peek()
        if word not in words:
            raise syntax(f"one of {', '.join(words)} is expected at or near '{word or 'end of statement'}'.")
        self.position += 1
        return word

    def token(self) -> Token:
        """The next token, whatever it is."""
        if self.position >= len(self.tokens):
            raise syntax("unexpected end of statement.")
        self.position += 1
        return self.tokens[self.position - 1]

    def string(self) -> str:
        """A string literal."""
        token = self.token()
        if token.token_type is not TokenType.STRING:
            raise syntax(f"a string is expected at or near '{token.text}'.")
        return token.text

    def number(self) -> int:
        """A whole number."""
        text = self.token().text
        if not text.isdigit():
            raise syntax(f"a whole number is expected at or near '{text}'.")
        return int(text)

    def name(self, depth: int) -> str:
        """A name of `depth` parts, completed with the current catalog and schema."""
        parts = [self.token().text]
        while self.peek() == ".":
            self.position += 1
            parts.append(self.token().text)
        if len(parts) > depth:
            raise syntax(f"{'.'.join(parts)} has more than {depth} part(s).")
        return ".".join([self.catalog, self.schema][: depth - len(parts)] + parts) if depth > 1 else parts[0]

    def end(self) -> None:
        """Check that nothing follows."""
        self.take(";")
        if self.peek():
            raise syntax(f"unexpected '{self.tokens[self.position].text}'.")
