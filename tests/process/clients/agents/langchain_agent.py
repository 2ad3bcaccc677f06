"""A LangChain agent (create_agent, on langgraph) whose chat model is the script."""

import os

os.environ.update(LANGSMITH_TRACING="false", LANGCHAIN_TRACING_V2="false")

import script
from langchain.agents import create_agent
from langchain.tools import tool
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr


class Scripted(BaseChatModel):
    """Reads the last tool message and says the script's next step."""

    _steps = PrivateAttr(default_factory=script.steps)
    _count: int = PrivateAttr(default=0)

    @property
    def _llm_type(self):
        return "scripted"

    def bind_tools(self, tools, **_):
        assert {each.name for each in tools} == {each.__name__ for each in script.TOOLS}
        return self

    def _generate(self, messages, stop=None, run_manager=None, **_):
        last = messages[-1]
        try:
            name, arguments = self._steps.send(last.content if isinstance(last, ToolMessage) else None)
            self._count += 1
            call = {"name": name, "args": arguments, "id": f"call-{self._count}"}
            message = AIMessage(content="", tool_calls=[call])
        except StopIteration as end:
            message = AIMessage(content=end.value)
        return ChatResult(generations=[ChatGeneration(message=message)])


agent = create_agent(Scripted(), tools=[tool(each) for each in script.TOOLS])
asked = {"messages": [{"role": "user", "content": "Call customer 7 back, refund 50.00, and delete the account."}]}
answer = agent.invoke(asked, config={"recursion_limit": 100})
script.said(answer["messages"][-1].content)
