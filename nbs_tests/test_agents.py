"""Agents: deadlines hold, the critical path calls no LLM, input is refused by field, a fallback says that it is one."""

import asyncio

import pytest
from pydantic import BaseModel, Field

from lib.agents import Agent, AgentResult, CriticalPathAgent, EchoAgent, EnrichmentAgent, Services
from lib.config import AgentConfig, ServingConfig
from lib.core import (
    AgentInput,
    AgentOutput,
    DeadlineExceeded,
    ForbiddenCall,
    InvalidInput,
    Unavailable,
    call_scope,
    current_scope,
)
from lib.serving import ModelServingClient
from nbs_tests.faulty import faulty_server

CONFIG = AgentConfig(class_="tests:Agent")


def call(data: dict | None = None) -> AgentInput:
    return AgentInput(agent_name="tested", data=data or {})


class Order(BaseModel):
    item: str
    price: float = Field(gt=0)


class Sleeper(CriticalPathAgent):
    """Would take an hour."""

    was_cancelled = False

    async def process(self, data):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


class Prepared(Sleeper):
    def fallback(self, data, error):
        return AgentResult({"answer": "a guess"}, confidence=0.1)


async def test_the_deadline_is_hard():
    agent = Sleeper("tested", CONFIG)
    with pytest.raises(DeadlineExceeded, match="tested did not answer within 50 ms"):
        await agent.run(call())
    assert agent.was_cancelled


async def test_what_comes_late_is_late_even_if_nobody_could_interrupt_it():
    class Stubborn(CriticalPathAgent):
        async def process(self, data):
            while current_scope().remaining():
                pass
            return AgentResult({"late": True})

    with pytest.raises(DeadlineExceeded):
        await Stubborn("tested", CONFIG.model_copy(update={"timeout_seconds": 0.01})).run(call())


async def test_a_fallback_answers_in_place_of_a_late_agent_and_says_so():
    answer = await Prepared("tested", CONFIG).run(call())
    assert answer.result == {"answer": "a guess"}
    assert answer.metadata.degraded
    assert "50 ms" in answer.metadata.reason


async def test_a_callers_deadline_holds_for_the_agents_it_calls():
    patient = Sleeper("tested", CONFIG.model_copy(update={"timeout_seconds": 3600}))
    with call_scope(timeout=0.01), pytest.raises(DeadlineExceeded, match="within 10 ms"):
        await patient.run(call())


async def test_a_timeout_inside_an_agent_is_not_mistaken_for_the_deadline():
    class Broken(EnrichmentAgent):
        async def process(self, data):
            raise TimeoutError("a socket of its own")

    with pytest.raises(TimeoutError, match="a socket of its own"):
        await Broken("tested", CONFIG).run(call())


async def test_the_critical_path_may_not_call_a_language_model():
    """The genuine client refuses before it sends anything, and no fallback hides that."""

    class Tempted(CriticalPathAgent):
        async def process(self, data):
            completion = await self.services.serving.predict("chat", [{"role": "user", "content": "score this"}])
            return AgentResult({"text": completion.text})

        def fallback(self, data, error):
            return AgentResult({"hidden": True})

    with faulty_server() as server:
        serving = ModelServingClient(server.url, dict, ServingConfig())
        patient = CONFIG.model_copy(update={"timeout_seconds": 30})
        with pytest.raises(ForbiddenCall):
            await Tempted("tested", patient, Services(serving=serving)).run(call())
        await serving.aclose()
    assert server.asked("chat") == 0


async def test_an_agent_called_from_the_critical_path_may_not_either():
    class Inner(EnrichmentAgent):
        async def process(self, data):
            current_scope().require_llm()

    class Outer(CriticalPathAgent):
        async def process(self, data):
            await self.services.agents["inner"].run(call())

    agents = {"inner": Inner("inner", CONFIG)}
    with pytest.raises(ForbiddenCall):
        await Outer("tested", CONFIG, Services(agents=agents)).run(call())


@pytest.mark.parametrize(
    ("data", "field"),
    [({"price": 1}, "data.item"), ({"item": "lamp", "price": "dear"}, "data.price"), ({"item": "lamp"}, "data.price")],
)
async def test_wrong_input_is_refused_by_field(data: dict, field: str):
    class Priced(Agent):
        input_schema = Order

    with pytest.raises(InvalidInput) as caught:
        await Priced("tested", CONFIG).run(call(data))
    assert caught.value.field == field


async def test_an_outage_reaches_the_fallback_and_a_bug_does_not():
    class Dependent(Agent):
        async def process(self, data):
            raise data["error"]

        def fallback(self, data, error):
            return AgentResult({})

    agent = Dependent("tested", CONFIG)
    answer = await agent.run(call({"error": Unavailable("the model is down")}))
    assert answer.metadata.reason == "the model is down"
    with pytest.raises(ZeroDivisionError):
        await agent.run(call({"error": ZeroDivisionError()}))


async def test_a_batch_keeps_its_order_its_bound_and_its_good_rows():
    class Counting(Agent):
        input_schema = Order
        running = most = 0

        async def process(self, data):
            Counting.running += 1
            Counting.most = max(Counting.most, Counting.running)
            await asyncio.sleep(0.001)
            Counting.running -= 1
            return AgentResult({"item": data.item})

    rows = [{"item": f"{i}", "price": 1} for i in range(20)]
    rows[7] = {"item": "seven"}
    outcomes = await Counting("tested", CONFIG).process_batch(rows, concurrency=3)
    assert isinstance(outcomes[7], InvalidInput)
    assert [o.result["item"] for o in outcomes if isinstance(o, AgentOutput)] == [f"{i}" for i in range(20) if i != 7]
    assert Counting.most == 3


async def test_echo_gives_back_what_it_was_given():
    answer = await EchoAgent("echo", CONFIG).run(AgentInput(agent_name="echo", data={"ä": [1, None]}, request_id="r1"))
    assert (answer.result, answer.request_id, answer.metadata.degraded) == ({"ä": [1, None]}, "r1", False)
