"""An agent's HTTP tool on `httpx` with HTTP/2, a hundred calls at once on one connection: unchanged but for base URL and token."""

import asyncio
import json
import os
import ssl

import httpx


def trust() -> ssl.SSLContext | bool:
    if "CA" not in os.environ:
        return True
    context = ssl.create_default_context(cafile=os.environ["CA"])
    if "CERTIFICATE" in os.environ:
        context.load_cert_chain(os.environ["CERTIFICATE"], os.environ["KEY"])
    return context


async def main() -> None:
    base = os.environ["BASE_URL"]
    headers = {"Authorization": "Bearer " + os.environ["TOKEN"]}
    # Without TLS nothing is negotiated: HTTP/2 alone is prior knowledge.
    options = {"http2": True, "http1": base.startswith("https"), "verify": trust()}
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60, **options) as client:
        found = await client.get("/users", params={"q": "ada lovelace", "page": 2})
        made = await client.post("/users/7/notes", json={"text": "grüße"})

        async def parts():
            for part in (b"one ", b"two ", b"three"):
                yield part

        piped = await client.post("/users/7/notes", content=parts())
        head = await client.head("/users")
        gone = await client.delete("/users/8")
        crowd = await asyncio.gather(*(client.get(f"/users/{number}") for number in range(100)))
        size = 0
        async with client.stream("GET", "/big", params={"bytes": 3_000_000}) as big:
            async for part in big.aiter_bytes():
                size += len(part)
    print(
        json.dumps(
            {
                "version": found.http_version,
                "found": found.json(),
                "made": made.json(),
                "piped": piped.json(),
                "head": [head.status_code, len(head.content)],
                "gone": [gone.status_code, gone.json()],
                "crowd": [answer.json()["target"] for answer in crowd],
                "size": size,
            }
        )
    )


asyncio.run(main())
