"""A tool's WebSocket on `websockets`: sends back what it gets, and says how each connection ended."""

import asyncio

from websockets.asyncio.server import serve


async def feed(connection) -> None:
    print("open", connection.request.headers.get("Authorization"), connection.subprotocol, flush=True)
    async for message in connection:
        await connection.send(message)
    print("closed", connection.close_code, flush=True)


async def main() -> None:
    async with serve(feed, "127.0.0.1", 0, subprotocols=["chat"], ping_interval=None) as server:
        print("port", server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
