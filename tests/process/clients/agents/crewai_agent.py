"""A CrewAI crew of one agent whose language model is the script."""

import os
import sys

# No telemetry, no tracing, no look for a newer version, no prompt.
os.environ.update(
    CREWAI_DISABLE_TELEMETRY="true",
    CREWAI_DISABLE_TRACKING="true",
    CREWAI_TRACING_ENABLED="false",
    CREWAI_DISABLE_VERSION_CHECK="true",
    CREWAI_TESTING="true",
    OTEL_SDK_DISABLED="true",
)
# Its console writes to standard output, which is the report's here.
report, sys.stdout = sys.stdout, sys.stderr

import json

import script
from crewai import BaseLLM, Agent, Crew, Task
from crewai.tools import tool
from pydantic import PrivateAttr


class Scripted(BaseLLM):
    """Reads the last tool message and says the script's next step."""

    _steps = PrivateAttr(default_factory=script.steps)
    _count: int = PrivateAttr(default=0)

    def call(self, messages, tools=None, *_, **__):
        assert {each["function"]["name"] for each in tools} == {each.__name__ for each in script.TOOLS}
        told = [each["content"] for each in messages if each["role"] == "tool"]
        try:
            name, arguments = self._steps.send(told[-1] if told else None)
        except StopIteration as end:
            return end.value
        self._count += 1
        wish = {"name": name, "arguments": json.dumps(arguments)}
        return [{"id": f"call-{self._count}", "type": "function", "function": wish}]

    def supports_function_calling(self):
        return True

    def get_context_window_size(self):
        return 1_000_000


clerk = Agent(
    role="clerk",
    goal="settle what customers ask for",
    backstory="works the customer desk",
    llm=Scripted(model="scripted"),
    tools=[tool(each.__name__)(each) for each in script.TOOLS],
    cache=False,
    max_iter=100,
    verbose=False,
)
wish = Task(
    description="Call customer 7 back, refund 50.00, and delete the account.",
    expected_output="what became of it",
    agent=clerk,
)
final = Crew(agents=[clerk], tasks=[wish], cache=False, verbose=False).kickoff().raw
sys.stdout = report
script.said(final)
