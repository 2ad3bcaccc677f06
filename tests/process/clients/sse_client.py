"""Reads server-sent events through `httpx-sse` and says each one as soon as it has it."""

import os

import httpx
from httpx_sse import connect_sse

headers = {"Authorization": "Bearer " + os.environ["TOKEN"]}
with httpx.Client(headers=headers, timeout=60) as client:
    with connect_sse(client, "GET", os.environ["BASE_URL"] + "/events") as source:
        for event in source.iter_sse():
            print(event.event, event.data, flush=True)
print("end", flush=True)
