"""An agent's client on the official SDK of MCP, unchanged but for address and token: what it is shown, and what it gets."""

import asyncio
import json
import os

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client


async def tried(call):
    try:
        result = await call
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)
    except Exception as fault:  # What a model would be told.
        return {"raised": f"{type(fault).__name__}: {fault}"}


async def main() -> None:
    headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
    async with httpx2.AsyncClient(headers=headers, timeout=20) as http:
        transport = streamable_http_client(os.environ["BASE_URL"], http_client=http)
        async with Client(transport, mode=os.environ["MODE"]) as client:
            progress = []

            async def told(done, total, message):
                progress.append(done)

            said = {
                "version": client.protocol_version,
                "tools": [tool.name for tool in (await client.list_tools()).tools],
                "resources": [str(it.uri) for it in (await client.list_resources()).resources],
                "templates": [it.uri_template for it in (await client.list_resource_templates()).resource_templates],
                "prompts": [it.name for it in (await client.list_prompts()).prompts],
                "called": await tried(client.call_tool("list_issues", {"repo": "acme/a"})),
                "slow": await tried(
                    client.call_tool("slow_issues", {"repo": "acme/a"}, progress_callback=told)
                ),
                "elsewhere": await tried(client.call_tool("list_issues", {"repo": "other/b"})),
                "refused": await tried(client.call_tool("delete_repo", {"repo": "acme/a"})),
                "read": await tried(client.read_resource("repo://acme/README")),
                "unread": await tried(client.read_resource("secret://keys")),
                "prompted": await tried(client.get_prompt("review", {"code": "x"})),
                "unprompted": await tried(client.get_prompt("leak")),
            }
            if os.environ.get("HELD"):
                said["held"] = await tried(client.call_tool("create_issue", {"repo": "acme/a", "title": "t"}))
                print(json.dumps({"held": said["held"]}), flush=True)
                input()
                said["again"] = await tried(client.call_tool("create_issue", {"repo": "acme/a", "title": "t"}))
            said["progress"] = progress
    print(json.dumps(said), flush=True)


asyncio.run(main())
