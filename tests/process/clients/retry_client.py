"""An agent's HTTP tool with little patience: gives up after TIMEOUT seconds and calls again until it is answered."""

import json
import os
import sys

import requests

session = requests.Session()
session.headers["Authorization"] = "Bearer " + os.environ["TOKEN"]
timeouts = 0

for attempt in range(1000):
    try:
        answer = session.post(os.environ["URL"], json={"amount": 7}, timeout=float(os.environ["TIMEOUT"]))
    except (requests.Timeout, requests.ConnectionError):
        timeouts += 1
        continue
    if answer.status_code == 202:
        continue
    said = {"status": answer.status_code, "timeouts": timeouts, "echo": answer.json()}
    print(json.dumps(said))
    sys.exit()
sys.exit("no answer")
