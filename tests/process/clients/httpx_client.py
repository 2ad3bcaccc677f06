"""An agent's HTTP tool on `httpx`, many calls at once: unchanged but for base URL and token."""

import asyncio
import json
import os

import httpx


async def main() -> None:
    headers = {"Authorization": "Bearer " + os.environ["TOKEN"]}
    async with httpx.AsyncClient(base_url=os.environ["BASE_URL"], headers=headers, timeout=30) as client:
        found = await client.get("/users", params={"q": "ada lovelace", "page": 2})
        made = await client.post("/users/7/notes", json={"text": "grüße"})
        gone = await client.delete("/users/8")
        crowd = await asyncio.gather(*(client.get(f"/users/{number}") for number in range(100)))
        size = 0
        async with client.stream("GET", "/big", params={"bytes": 3_000_000}) as big:
            async for part in big.aiter_bytes():
                size += len(part)
    print(
        json.dumps(
            {
                "found": found.json(),
                "made": made.json(),
                "gone": [gone.status_code, gone.json()],
                "crowd": [answer.json()["target"] for answer in crowd],
                "size": size,
            }
        )
    )


asyncio.run(main())
