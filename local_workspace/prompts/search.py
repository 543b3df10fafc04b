"""The filters of a search for prompts: conditions on the name and on tags, joined by AND."""

import re
from collections.abc import Callable

from local_workspace.errors import BadRequest

CONDITION = re.compile(
    r"""\s*(?:(?P<field>name)|tags?\.(?:`(?P<ticked>[^`]+)`|"(?P<quoted>[^"]+)"|(?P<plain>[\w.-]+)))
    \s*(?P<operator>=|!=|(?:I?LIKE\b))\s*(?P<quote>['"])(?P<value>.*?)(?P=quote)\s*""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
AND = re.compile(r"AND\b", re.IGNORECASE)

Match = Callable[[str, dict[str, str]], bool]
"""Whether a prompt with this full name and these tags is looked for."""


def matcher(text: str) -> Match:
    """What a filter looks for; an empty one everything. Raises BadRequest."""
    conditions: list[Match] = []
    position = 0
    while position < len(text.rstrip()):
        match = CONDITION.match(text, position)
        if not match:
            raise BadRequest(
                f"filter {text[:300]!r}: conditions are name or tags.`key` with =, !=, LIKE or ILIKE and a quoted"
                " value, joined by AND"
            )
        conditions.append(_condition(match))
        position = match.end()
        if position < len(text):
            joined = AND.match(text, position)
            if not joined or not text[joined.end() :].strip():
                raise BadRequest(f"filter {text[:300]!r}: after {text[:position].strip()!r} comes AND and a condition")
            position = joined.end()
    return lambda name, tags: all(condition(name, tags) for condition in conditions)


def _condition(match: re.Match[str]) -> Match:
    key = match["ticked"] or match["quoted"] or match["plain"]
    operator = match["operator"].upper()
    equals = _equals(operator, match["value"])
    wanted = operator != "!="
    if key is None:
        return lambda name, tags: (equals(name) or equals(name.rpartition(".")[2])) == wanted
    return lambda name, tags: key in tags and equals(tags[key]) == wanted


def _equals(operator: str, value: str) -> Callable[[str], bool]:
    if operator in ("=", "!="):
        return lambda found: found == value
    wildcards = {"%": ".*", "_": "."}
    pattern = "".join(wildcards.get(character, re.escape(character)) for character in value)
    compiled = re.compile(pattern, re.DOTALL | (re.IGNORECASE if operator == "ILIKE" else 0))
    return lambda found: compiled.fullmatch(found) is not None
