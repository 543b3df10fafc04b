"""Two scripted models: one does what its instructions say about even numbers, one proposes other instructions."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from nbs_tests.even_numbers import examples, number, truth
from nbs_tests.scripted_model import Script

BETTER = "Look at the last digit: a number is even (gerade) when 2 divides it."
WORSE = "Say odd for what is even: never the truth."
ROWS = examples(40)


def answer(messages: list[dict[str, Any]]) -> str | int:
    """Right with BETTER; else `even` always, or what the instructions say."""
    told = messages[0]["content"]
    if "last digit" in told:
        return truth(messages)
    if "poem" in told:
        return "Two by two, the even few."
    if told.startswith("Guess"):  # right on a share of the numbers that only its text decides
        luck = hashlib.sha256(f"{told}{number(messages)}".encode()).digest()[0] % 3
        return truth(messages) if luck else "no idea" if told.endswith("!") else '{"even": false}'
    if "above 5" in told:
        return truth(messages) if number(messages) > 5 else '{"even": true}'
    return json.dumps({"even": number(messages) % 2 == 1}) if "never" in told else '{"even": true}'


@dataclass
class Proposer:
    """Writes criticisms, and one text after the other for each that was refused."""

    texts: list[str] = field(default_factory=lambda: [BETTER])

    def __call__(self, messages: list[dict[str, Any]]) -> str | int:
        system, question = (message["content"] for message in messages)
        if "gradient (feedback) engine" in system:
            return "It does not say what even means."
        text = self.texts[question.count("An earlier proposal was refused") % len(self.texts)]
        return text if "VARIABLE>" in text else f"<IMPROVED_VARIABLE>{text}</IMPROVED_VARIABLE>"


def asked(script: Script) -> list[str]:
    return [json.dumps(body["messages"]) for body in script.calls]
