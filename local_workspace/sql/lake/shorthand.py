"""Shorthand of Databricks SQL that Sail lacks, written out: `SELECT * EXCEPT (a)` and `GROUP BY ALL`."""

from collections.abc import Sequence

from pyspark.sql.connect.session import SparkSession
from sqlglot import exp
from sqlglot.tokens import Token

from local_workspace.sql.lake.errors import SqlError, unsupported
from local_workspace.sql.lake.rewriting import Edits, call_at, parsed, quoted

STAR, GROUP = ("*", "EXCEPT", "("), ("GROUP BY", "ALL")


def _places(words: Sequence[str], wanted: tuple[str, ...]) -> list[int]:
    return [i for i in range(len(words)) if tuple(words[i : i + len(wanted)]) == wanted]


def written_out(session: SparkSession, sql: str, tokens: Sequence[Token]) -> str:
    """The statement without shorthand. Raises SqlError."""
    words = [token.text.upper() for token in tokens]
    stars = [i for i in _places(words, STAR) if words[i + 3 : i + 4] != ["SELECT"]]
    groups = _places(words, GROUP)
    if not stars and not groups:
        return sql
    if len(stars) > 1 or len(groups) > 1:
        raise unsupported("more than one SELECT * EXCEPT (…) or GROUP BY ALL in a statement")
    edits, tree = Edits(sql), parsed(sql)
    for at in stars:
        start = at - 2 if at > 1 and words[at - 1] == "." else at
        end = call_at(sql, tokens, tokens[at + 1].start).span[1]
        edits.replace((tokens[start].start, end), ", ".join(_columns(session, tree)))
    for at in groups:
        select = next(s for s in tree.find_all(exp.Select) if (group := s.args.get("group")) and group.args.get("all"))
        keys = [str(i) for i, item in enumerate(select.expressions, 1) if not item.find(exp.AggFunc)]
        place = (tokens[at].start if not keys else tokens[at + 1].start, tokens[at + 1].end + 1)
        edits.replace(place, ", ".join(keys))
    return edits.applied()


def _columns(session: SparkSession, tree: exp.Expr) -> list[str]:
    """The columns that `* EXCEPT (…)` stands for, as Sail tells them of the same FROM."""
    star = next(star for star in tree.find_all(exp.Star) if star.args.get("except_"))
    select = star.find_ancestor(exp.Select)
    if select is None:
        raise unsupported("* EXCEPT (…) outside of SELECT")
    table = star.parent.table if isinstance(star.parent, exp.Column) else ""
    everything = exp.select(exp.Column(this=exp.Star(), table=exp.to_identifier(table)) if table else exp.Star())
    for part in ("from_", "joins", "laterals"):
        if given := select.args.get(part):
            everything.set(part, [g.copy() for g in given] if isinstance(given, list) else given.copy())
    if (root := tree.find(exp.With)) and root.parent is tree:
        everything.set("with_", root.copy())
    names = session.sql(everything.sql("spark")).columns
    left_out = {column.name.lower() for column in star.args["except_"]}
    if unknown := sorted(left_out - {name.lower() for name in names}):
        raise SqlError("EXCEPT_RESOLVED_COLUMNS_WITHOUT_MATCH", f"EXCEPT names no column {unknown[0]}.", "42703")
    prefix = [table] if table else []
    return [quoted(*prefix, name) for name in names if name.lower() not in left_out]
