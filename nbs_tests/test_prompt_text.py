"""The text of a prompt: messages, blanks, demonstrations, and what is refused."""

from pathlib import Path

import pytest

from lib.core import InvalidInput
from lib.prompts import Prompt, compose, read_prompts
from nbs_tests.house import ROOT

TEXT = "Be brief.\n---\nSay {{what}} to {{whom}}.\n"
LONG = "Be brief.\n--- user\nSay a.\n--- assistant\na\n--- user\nSay {{what}}.\n"


def test_the_constant_part_is_the_system_message():
    messages = Prompt("greet", 1, TEXT).messages(what="hello", whom="you")
    assert messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello to you."}]


def test_a_text_without_a_line_is_a_user_message():
    assert Prompt("greet", 1, "Hi {{ name }}!").messages(name="Ann") == [{"role": "user", "content": "Hi Ann!"}]


def test_within_a_users_message_a_line_is_a_line():
    system, user = Prompt("greet", 1, "a\n---\nb\n---\nc").messages()
    assert (system["content"], user["content"]) == ("a", "b\n---\nc")


def test_demonstrations_are_messages_of_their_own():
    messages = Prompt("greet", 1, LONG).messages(what="b")
    assert [(message["role"], message["content"]) for message in messages] == [
        ("system", "Be brief."),
        ("user", "Say a."),
        ("assistant", "a"),
        ("user", "Say b."),
    ]


@pytest.mark.parametrize("line", ["---", "--- ", "--- user"])
def test_a_bare_line_opens_the_users_turn(line: str):
    text = f"Be brief.\n{line}\nSay a.\n--- assistant\na\n{line}\nSay {{{{what}}}}.\n"
    assert Prompt("greet", 1, text).turns == Prompt("greet", 1, LONG).turns


def test_line_ends_of_windows_divide_too():
    assert Prompt("greet", 1, LONG.replace("\n", "\r\n")).turns == Prompt("greet", 1, LONG).turns


def test_compose_writes_what_turns_reads():
    text = compose("Be brief.", [("Say a.", "a")], "Say {{what}}.")
    assert text == LONG
    assert compose("Be brief.", [], "Say {{what}} to {{whom}}.") == TEXT
    assert Prompt("greet", 1, compose("", [], "{{x}}")).turns == (("user", "{{x}}"),)
    assert Prompt("greet", 1, compose("", [("a", "b")], "{{x}}")).turns[0] == ("user", "a")


@pytest.mark.parametrize(
    "part", ["----", "a\n ---", "--- users", "-- user", "é\u2028{x}", '{"a": {"b": "}}"}}', "a\n\n\nb"]
)
def test_whatever_is_no_divider_survives(part: str):
    turns = Prompt("greet", 1, compose(part, [(part, part), ("q", part)], part)).turns
    assert [text for _, text in turns] == [part.strip(), part.strip(), part.strip(), "q", part.strip(), part.strip()]


def test_values_and_demonstrations_are_data_and_never_templates():
    message = Prompt("greet", 1, "{{a}} {{b}}").messages(a="{{b}} \\1 --- {}", b={"quote": 'é"'})[0]["content"]
    assert message == '{{b}} \\1 --- {} {"quote": "é\\""}'
    prompt = Prompt("greet", 1, compose("", [("Who wrote {{b}}?", "{{a}}")], "{{x}}"))
    assert prompt.variables == ("x",)
    assert prompt.messages(x="y")[1]["content"] == "{{a}}"


@pytest.mark.parametrize(
    ("values", "problem"),
    [({"what": 1}, "needs whom"), ({"what": 1, "whom": 2, "why": 3}, "does not know why"), ({}, "needs what, whom")],
)
def test_missing_and_unknown_values_are_named(values: dict, problem: str):
    with pytest.raises(InvalidInput, match=f"greet v1 {problem}"):
        Prompt("greet", 1, TEXT).messages(**values)


MALFORMED = {
    "nothing": ("", "no text for the user"),
    "empty user": ("---\n", "no text for the user"),
    "only constant": ("only constant\n---\n", "no text for the user"),
    "blank above": ("for {{bank}}\n---\n{{x}}", "bank stands above"),
    "assistant last": ("a\n---\nb\n--- assistant\nc", "the last message must be the user's"),
    "assistant first": ("a\n--- assistant\nb\n---\nc", "message 1 .* assistant's where the user's"),
    "twice the user": ("a\n--- user\nb\n--- user\nc", "message 2 .* user's where the assistant's"),
    "empty demonstration": ("a\n--- user\n\n--- assistant\nb\n--- user\nc", "message 1 .* is empty"),
    "ten megabytes": ("x" * 10_000_000, "10,000,000 characters"),
    "half a character": ("You are \ud800 kind\n---\n{{x}}", "character 9 is .* half of one"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_text_that_is_not_well_formed_is_refused(case: str):
    text, problem = MALFORMED[case]
    with pytest.raises(InvalidInput, match=problem) as caught:
        Prompt("greet", 1, text)
    assert caught.value.field == "text"


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        (("a\n---\nb", [], "c"), "system"),
        (("a", [("b\n--- user", "c")], "d"), "user"),
        (("a", [("b", "--- assistant\nc")], "d"), "assistant"),
        (("a", [("b", " ---")], "d"), "assistant"),
        (("a", [("b", " ")], "d"), "assistant"),
        (("a", [], "\n"), "user"),
    ],
)
def test_a_part_that_would_be_read_as_something_else_is_refused(parts: tuple, field: str):
    with pytest.raises(InvalidInput) as caught:
        compose(*parts)
    assert caught.value.field == field


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b", "é", "1st", "a" * 65, "a.txt"])
def test_a_name_that_is_no_file_name_is_refused(name: str):
    with pytest.raises(InvalidInput) as caught:
        Prompt(name, 1, TEXT)
    assert caught.value.field == "name"


def test_the_repositorys_own_texts_are_well_formed(tmp_path: Path):
    assert {prompt.name for prompt in read_prompts(ROOT / "app" / "prompts")} >= {"fraud_detector", "narrative"}
    (tmp_path / "greet.txt").write_bytes(TEXT.replace("\n", "\r\n").encode())
    (tmp_path / "notes.md").write_text("no prompt")
    assert [(prompt.label, prompt.text) for prompt in read_prompts(tmp_path)] == [("greet v0", TEXT)]
