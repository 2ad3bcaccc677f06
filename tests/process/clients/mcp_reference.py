"""The conformance server of MCP's Python SDK, as its sources have it, on a port that the system chooses, which it says once it
listens. Argument: the folder that ./test unpacked it into.
"""

import sys

import uvicorn

startup = uvicorn.Server.startup


async def started(server: uvicorn.Server, sockets=None) -> None:
    await startup(server, sockets=sockets)
    print("port", server.servers[0].sockets[0].getsockname()[1], flush=True)


uvicorn.Server.startup = started
sys.path.insert(0, sys.argv[1])

from mcp_everything_server.server import main  # noqa: E402

main(["--port", "0"])
