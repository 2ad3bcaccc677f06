"""An agent's HTTP tool on `requests`: written for the backend, unchanged but for base URL and token."""

import json
import os

import requests

base = os.environ["BASE_URL"]
session = requests.Session()
session.headers["Authorization"] = "Bearer " + os.environ["TOKEN"]

found = session.get(base + "/users", params={"q": "ada lovelace", "page": 2}, timeout=30)
made = session.post(base + "/users/7/notes", json={"text": "grüße"}, timeout=30)
piped = session.post(base + "/users/7/notes", data=iter([b"one ", b"two ", b"three"]), timeout=30)
head = session.head(base + "/users", timeout=30)
gone = session.delete(base + "/users/8", timeout=30)
with session.get(base + "/big", params={"bytes": 3_000_000}, stream=True, timeout=30) as big:
    size = sum(len(part) for part in big.iter_content(100_000))

print(
    json.dumps(
        {
            "found": found.json(),
            "made": made.json(),
            "piped": piped.json(),
            "head": [head.status_code, len(head.content)],
            "gone": [gone.status_code, gone.json()],
            "size": size,
        }
    )
)
