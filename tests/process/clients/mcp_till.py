"""An agent's client on the official SDK of MCP: what it is shown of a till's tools, and what paying comes to."""

import asyncio
import json
import os

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client


async def main() -> None:
    headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
    async with httpx2.AsyncClient(headers=headers, timeout=20) as http:
        transport = streamable_http_client(os.environ["BASE_URL"], http_client=http)
        async with Client(transport, mode=os.environ["MODE"]) as client:
            tools = {tool.name: tool.description for tool in (await client.list_tools()).tools}
            paid = await client.call_tool("pay", {"amount": 5})
            result = paid.model_dump(mode="json", by_alias=True, exclude_none=True)
    print(json.dumps({"tools": tools, "paid": result}), flush=True)


asyncio.run(main())
