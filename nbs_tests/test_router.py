"""The router: agents come from configuration by dotted path, and what cannot be built is refused by name."""

from pathlib import Path

import pytest

from lib.agents import Agent, AgentResult, EchoAgent
from lib.config import AgentConfig, RuntimeConfig
from lib.core import AgentInput, AlreadyExists, ConfigurationError, DeadlineExceeded, NotFound, Unavailable
from lib.router import AgentRegistry, AgentRouter, load_class, prompt_contracts


def config(**agents: dict) -> RuntimeConfig:
    return RuntimeConfig.model_validate({"agents": agents})


def here(agent: type[Agent]) -> dict:
    return {"class": f"{__name__}:{agent.__name__}"}


EVENTS: list[str] = []


class Lifecycle(Agent):
    """Notes what happens to it."""

    async def initialize(self):
        EVENTS.append(f"start {self.name}")

    async def cleanup(self):
        EVENTS.append(f"stop {self.name}")


class Broken(Lifecycle):
    async def initialize(self):
        raise Unavailable("no warehouse is running")


class Wobbly(Agent):
    async def initialize(self):
        self.calls = 0

    async def process(self, data):
        self.calls += 1
        if self.calls < 3:
            raise Unavailable("not up yet")
        return AgentResult({"calls": self.calls})


class Slow(Agent):
    async def process(self, data):
        raise DeadlineExceeded("too late")


class Peer(Agent):
    async def process(self, data):
        answer = await self.services.agents["echo"].run(AgentInput(agent_name="echo", data=data))
        return AgentResult({"said": answer.result})


async def test_echo_is_always_there():
    router = AgentRouter.from_config(RuntimeConfig())
    assert router.registry.list() == ["echo"]
    assert (await router.route("echo", {"a": 1})).result == {"a": 1}


async def test_agents_come_from_yaml(tmp_path: Path):
    (tmp_path / "agents.yaml").write_text("agents: {mirror: {class: 'lib.agents:EchoAgent', timeout_seconds: 9}}")
    (tmp_path / "agents.dev.yaml").write_text("agents: {mirror: {timeout_seconds: '${SECONDS:-7}'}}")
    router = AgentRouter.from_yaml(tmp_path / "agents.yaml", tmp_path / "agents.dev.yaml")
    assert isinstance(router.registry.get("mirror"), EchoAgent)
    assert router.registry.get("mirror").timeout == 7


async def test_an_unknown_agent_is_answered_with_the_known_ones():
    router = AgentRouter.from_config(config(mirror={"class": "lib.agents:EchoAgent"}))
    with pytest.raises(NotFound, match=r"'miror'.*echo, mirror") as caught:
        await router.route("miror", {})
    assert caught.value.known == ["echo", "mirror"]


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        ({"class": "nowhere.at.all:Agent"}, "no module 'nowhere'"),
        ({"class": "lib.agents:Missing"}, "does not name a class"),
        ({"class": "lib.agents:Services"}, "is not an Agent"),
        ({"class": "lib.agents:EchoAgent", "execution_mode": "serverless"}, "'serverless'.*in_process only"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(agent: dict, told: str):
    with pytest.raises(ConfigurationError, match=f"agents.scorer.*{told}"):
        AgentRouter.from_config(config(scorer=agent))


def test_a_name_is_taken_once():
    registry = AgentRegistry()
    registry.register(EchoAgent("echo", AgentConfig(class_="lib.agents:EchoAgent")))
    with pytest.raises(AlreadyExists, match="echo"):
        registry.register(EchoAgent("echo", AgentConfig(class_="lib.agents:EchoAgent")))


async def test_agents_start_with_the_router_and_stop_in_reverse():
    EVENTS.clear()
    async with AgentRouter.from_config(config(a=here(Lifecycle), b=here(Lifecycle))):
        assert EVENTS == ["start a", "start b"]
    assert EVENTS[2:] == ["stop b", "stop a"]


async def test_when_one_cannot_start_the_others_are_stopped():
    EVENTS.clear()
    router = AgentRouter.from_config(config(a=here(Lifecycle), b=here(Broken)))
    with pytest.raises(Unavailable, match="no warehouse"):
        await router.initialize()
    assert "stop a" in EVENTS


async def test_what_was_unavailable_is_tried_again_as_often_as_configured():
    async with AgentRouter.from_config(config(wobbly=here(Wobbly) | {"max_retries": 2})) as router:
        assert (await router.route("wobbly", {}, timeout=30)).result == {"calls": 3}
    async with AgentRouter.from_config(config(wobbly=here(Wobbly) | {"max_retries": 1})) as router:
        with pytest.raises(Unavailable, match="not up yet"):
            await router.route("wobbly", {}, timeout=30)


async def test_a_passed_deadline_is_not_tried_again():
    router = AgentRouter.from_config(config(slow=here(Slow) | {"max_retries": 3}))
    with pytest.raises(DeadlineExceeded):
        await router.route("slow", {})


async def test_agents_reach_each_other_by_name():
    router = AgentRouter.from_config(config(peer=here(Peer)))
    assert (await router.route("peer", {"hello": "you"})).result == {"said": {"hello": "you"}}


class Teller(Agent):
    prompt_inputs = frozenset({"story"})


class Judge(Agent):
    prompt_inputs = frozenset({"story", "law"})


def test_what_an_agent_fills_is_what_its_prompt_must_ask_for():
    agents = config(
        teller=here(Teller) | {"prompt": "tell"}, judge=here(Judge) | {"prompt": "judge"}, quiet=here(Teller)
    )
    assert prompt_contracts(agents) == {"tell": {"story"}, "judge": {"story", "law"}}
    shared = config(teller=here(Teller) | {"prompt": "tell"}, judge=here(Judge) | {"prompt": "tell"})
    with pytest.raises(ConfigurationError, match=r"agents\.judge\.prompt.*also the prompt of teller"):
        prompt_contracts(shared)
    with pytest.raises(ConfigurationError, match=r"agents\.teller\.class: no module 'nowhere'"):
        prompt_contracts(config(teller={"class": "nowhere:Teller", "prompt": "tell"}))


def test_a_class_is_loaded_by_its_path_or_refused_with_its_setting():
    assert load_class("lib.agents:Agent", "agents.x.task") is Agent
    for path, told in (
        ("no.such:Thing", "no module 'no'"),
        ("lib.agents:Nothing", "name"),
        ("lib.agents:span", "class"),
    ):
        with pytest.raises(ConfigurationError, match=rf"^agents\.x\.task: .*{told}"):
            load_class(path, "agents.x.task")
