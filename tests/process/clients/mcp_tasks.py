"""An agent's client on the official SDK of MCP that takes tasks in the place of results, through the SDK's own seam for
extensions: each is polled to its end. Says the id of each task, and then what the calls came to."""

import asyncio
import json
import os
from typing import Any, Literal

import httpx2
from mcp.client.client import Client
from mcp.client.extension import ClientExtension, ResultClaim
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, Request, RequestParams, Result

TASKS = "io.modelcontextprotocol/tasks"


class Begun(Result):
    result_type: Literal["task"]
    task_id: str
    status: str


class State(Result):
    status: str
    result: dict[str, Any] | None = None


class Which(RequestParams):
    task_id: str


class Get(Request[Which, Literal["tasks/get"]]):
    name_param = "taskId"
    method: Literal["tasks/get"] = "tasks/get"
    params: Which


async def to_its_end(begun: Begun, context) -> CallToolResult:
    print(json.dumps({"task": begun.task_id}), flush=True)
    while True:
        state = await context.session.send_request(Get(params=Which(task_id=begun.task_id)), State)
        if state.status != "working":
            return CallToolResult.model_validate(state.result)
        await asyncio.sleep(0.1)


class Tasks(ClientExtension):
    identifier = TASKS

    def claims(self):
        return [ResultClaim(result_type="task", model=Begun, resolve=to_its_end)]


async def main() -> None:
    headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
    async with httpx2.AsyncClient(headers=headers, timeout=20) as http:
        transport = streamable_http_client(os.environ["BASE_URL"], http_client=http)
        async with Client(transport, mode="2026-07-28", extensions=[Tasks()]) as client:
            discovered = await client.session.send_discover("2026-07-28")
            extensions = discovered["capabilities"].get("extensions", {})
            said: dict[str, Any] = {"declared": TASKS in extensions}
            for name, title in [("made", "t"), ("denied", "u")]:
                result = await client.call_tool("create_issue", {"repo": "acme/a", "title": title})
                said[name] = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    print(json.dumps(said), flush=True)


asyncio.run(main())
