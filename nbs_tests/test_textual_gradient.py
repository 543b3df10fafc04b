"""One step of textual gradient descent, and the contract that a proposal must keep."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from lib.core import InvalidInput
from lib.prompt_text import Prompt
from lib.textual_gradient import (
    Mistake,
    contract_problem,
    instructions_of,
    longest,
    propose,
    with_instructions,
)


class Verdict(BaseModel):
    """What the agent answers."""

    reason: str
    risk: int


INSTRUCTIONS = 'Judge the payment.\nAnswer in JSON with "reason" and "risk".'
PARENT = Prompt("judge", 3, f"{INSTRUCTIONS}\n---\nPayment: {{{{payment}}}}\n")
LONG = f"{' '.join(f'word{n}' for n in range(60))} {INSTRUCTIONS}"
MISTAKES = [Mistake(f"Payment: {n}", f'{{"risk": {n}}}', f"Wrong: {n} was stolen {{abroad}}.") for n in range(4)]


class Models:
    """A criticising and a rewriting model whose words are known."""

    def __init__(self, answer: str):
        self.answer, self.criticised, self.rewritten = answer, [], []

    def criticise(self, question: str, system: str) -> str:
        self.criticised.append((system, question))
        return f"criticism {len(self.criticised)} {{of}} it"

    def rewrite(self, question: str, system: str) -> str:
        self.rewritten.append((system, question))
        return self.answer


def improved(text: str) -> str:
    return f"Here you are: <IMPROVED_VARIABLE> {text} </IMPROVED_VARIABLE> Good luck!"


def test_each_mistake_gives_one_gradient_in_its_order():
    models = Models(improved("Better."))
    found = propose(INSTRUCTIONS, MISTAKES, ["Keep {it}."], models.criticise, models.rewrite)
    assert found.text == "Better." and found.problem == ""
    assert found.gradients == tuple(f"criticism {n} {{of}} it" for n in range(1, 5))
    assert len(models.criticised) == 4 and len(models.rewritten) == 1
    for mistake, (system, question) in zip(MISTAKES, models.criticised, strict=True):
        assert "gradient (feedback) engine" in system
        for part in (INSTRUCTIONS, mistake.question, mistake.answer, mistake.review):
            assert part in question
    [(system, question)] = models.rewritten
    places = [question.index(gradient) for gradient in found.gradients]
    assert places == sorted(places) and "Constraint 1: Keep {it}." in question
    assert "<IMPROVED_VARIABLE>" in system


def test_the_models_see_the_whole_text():
    models = Models(improved("Better."))
    propose(LONG, MISTAKES[:1], [], models.criticise, models.rewrite)
    for _, question in (*models.criticised, *models.rewritten):
        assert f"<VARIABLE> {LONG} </VARIABLE>" in question and "(...)" not in question


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("", "no <IMPROVED_VARIABLE>"),
        ("I cannot.", "no <IMPROVED_VARIABLE>"),
        ("</IMPROVED_VARIABLE>", "no <IMPROVED_VARIABLE>"),
        ("<IMPROVED_VARIABLE>Judge the paym", "cut off: no </IMPROVED_VARIABLE>"),
        ("</IMPROVED_VARIABLE><IMPROVED_VARIABLE>Judge", "cut off: no </IMPROVED_VARIABLE>"),
    ],
    ids=["silent", "refused", "closed only", "cut off", "wrong way round"],
)
def test_an_answer_without_both_tags_is_no_proposal(answer: str, problem: str):
    models = Models(answer)
    found = propose(INSTRUCTIONS, MISTAKES[:2], [], models.criticise, models.rewrite)
    assert (found.text, len(found.gradients)) == ("", 2)
    assert found.problem.startswith(problem)


def test_what_a_model_raises_goes_through():
    def fail(question: str, system: str) -> str:
        raise InvalidInput("too long a question", field="messages")

    models = Models("")
    for criticise, rewrite in ((fail, models.rewrite), (models.criticise, fail)):
        with pytest.raises(InvalidInput, match="too long a question"):
            propose(INSTRUCTIONS, MISTAKES[:1], [], criticise, rewrite)


def test_textgrad_writes_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    models = Models("no tags: TextGrad would log an error")
    propose(INSTRUCTIONS, MISTAKES[:1], [], models.criticise, models.rewrite)
    import textgrad

    assert list(tmp_path.iterdir()) == [] and textgrad.logger.handlers == []


GOOD = INSTRUCTIONS.replace("payment", "payment with care")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("Be kind.", "no longer names reason, risk"),
        ("Give your reasoning and the risky parts.", "no longer names reason, risk"),
        (f"{GOOD} For {{{{customer}}}}.", "contains {{"),
        (f"{GOOD} {{{{ a.b }}}}", "contains {{"),
        (f"{GOOD}\n---\nmore", "divides messages"),
        (f"{GOOD}\r--- assistant\rI agree", "divides messages"),
        (f"{GOOD}\u2028---\u2028more", "divides messages"),
        ("---\n", "no longer names"),
        (f"{GOOD} " * 1000, "too long: "),
        (INSTRUCTIONS, "the same text was tried before"),
        (f"\n {INSTRUCTIONS}  ", "the same text was tried before"),
        ("Tried: reason, risk", "the same text was tried before"),
    ],
)
def test_a_broken_contract_is_named(text: str, problem: str):
    assert problem in contract_problem(PARENT, text, Verdict, ["Tried: reason, risk"])


@pytest.mark.parametrize("text", [GOOD, f"{GOOD} {{}} {{x}} -- --- here", f"# {GOOD}\n\n- é 語"])
def test_a_kept_contract_is_read_back_as_it_was_written(text: str):
    assert contract_problem(PARENT, text, Verdict) == ""
    variant = with_instructions(PARENT, text)
    assert instructions_of(variant) == text
    assert variant.messages(payment="x")[1:] == PARENT.messages(payment="x")[1:]


def test_demonstrations_and_blanks_stay():
    text = "Judge: reason, risk.\n--- user\nPayment: 5\n--- assistant\n{}\n--- user\nPayment: {{payment}}\n"
    variant = with_instructions(Prompt("judge", 3, text), "Judge well: reason, risk.")
    assert variant.text == text.replace("Judge:", "Judge well:") and variant.variables == ("payment",)


def test_a_field_that_the_parent_does_not_name_may_stay_unnamed():
    parent = Prompt("judge", 1, "Judge the risk.\n---\n{{payment}}\n")
    assert contract_problem(parent, "Judge the risk well.", Verdict) == ""


def test_a_prompt_without_instructions_has_nothing_to_improve():
    with pytest.raises(InvalidInput, match="judge v1 has no instructions above a line ---") as caught:
        instructions_of(Prompt("judge", 1, "Payment: {{payment}}\n"))
    assert caught.value.field == "text"


def test_instructions_may_grow_by_half():
    assert (longest(PARENT), longest(Prompt("long", 1, f"{'x' * 2000}\n---\n{{{{y}}}}"))) == (1000, 3000)
