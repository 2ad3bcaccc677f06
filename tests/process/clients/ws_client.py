"""An agent's feed on `websockets`: unchanged but for base URL and token. Says what came back, then how it ended."""

import asyncio
import os

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def main() -> None:
    url = os.environ["BASE_URL"].replace("http", "ws", 1) + "/feed"
    headers = {"Authorization": "Bearer " + os.environ["TOKEN"]}
    async with connect(url, additional_headers=headers, subprotocols=["chat"], proxy=None) as feed:
        for message in ["grüße", os.urandom(1_000_000)]:
            await feed.send(message)
            assert await feed.recv() == message
        pong = await feed.ping()
        await pong
        print("echoed", feed.subprotocol, flush=True)
        if os.environ["STAY"] == "no":
            await feed.close()
        else:
            try:
                await feed.recv()
            except ConnectionClosed:
                pass
        print("closed", feed.close_code, flush=True)


asyncio.run(main())
