"""What the two scripted agents share: their HTTP tools, which know a base URL and a token and nothing else, and the
script that stands for a language model. The script reads what a tool answered, as a model does, and takes its next step
from that text alone; text that it can't act upon ends the run."""

import json
import os
import re
from urllib.parse import urljoin, urlsplit

import httpx

BASE = os.environ["BASE_URL"]
http = httpx.Client(headers={"Authorization": "Bearer " + os.environ["TOKEN"]}, timeout=60, trust_env=False)
seen = []


def _call(method, url, **more):
    answer = http.request(method, url, **more)
    seen.append([method, urlsplit(url).path, answer.status_code, answer.text])
    return answer.text


def read_customer(customer: str) -> str:
    """Read a customer's record."""
    return _call("GET", f"{BASE}/users/{customer}")


def write_note(customer: str, text: str) -> str:
    """Write a note into a customer's record."""
    return _call("POST", f"{BASE}/users/{customer}/notes", json={"text": text})


def refund(customer: str, amount: int) -> str:
    """Refund an amount to a customer."""
    return _call("POST", f"{BASE}/users/{customer}/refunds", json={"amount": amount})


def delete_customer(customer: str) -> str:
    """Delete a customer's record."""
    return _call("DELETE", f"{BASE}/users/{customer}")


def follow(method: str, href: str, body: str = "") -> str:
    """Do what an answer's `next` says: call a place of the gate, with a JSON text as body. Waits for what is pending."""
    more = {"content": body, "headers": {"Content-Type": "application/json"}} if body else {}
    more.setdefault("headers", {})["Prefer"] = "wait=30"
    return _call(method, urljoin(BASE, href), **more)


TOOLS = [read_customer, write_note, refund, delete_customer, follow]


class Lost(Exception):
    """The script was told something that it does not know how to act upon."""


def _document(text):
    """The JSON object in what a model reads, which may have words around it."""
    found = re.search(r"\{.*\}", text, re.DOTALL)
    if not found:
        raise Lost(text)
    return json.loads(found[0])


def _refused(text, reason, *words):
    """The problem in a refusal, if it is this one and its `detail` has these words."""
    told = _document(text)
    if told.get("reason") != reason or not all(word in told["detail"] for word in words):
        raise Lost(text)
    return told


def steps():
    """Yields (tool, arguments) and is sent what the tool answered; returns what the agent says in the end."""
    told = _document((yield "read_customer", {"customer": "7"}))
    if told["target"] != "/users/7":
        raise Lost(told)
    # Another customer's record: the refusal says that it is not this session's, so the script goes on with its own.
    other = _refused((yield "read_customer", {"customer": "8"}), "resource_outside_ceiling", "user:8")
    # A note needs a grant first: the refusal says where and how to ask, and the script does just that.
    note = "write_note", {"customer": "7", "text": "called back"}
    ask = _refused((yield note), "grant_missing")["next"]
    wish = {**ask["body"], "reason": "the customer asked to be called back"}
    given = _document((yield "follow", {"method": ask["method"], "href": ask["href"], "body": json.dumps(wish)}))
    if "expires_at" not in given:
        raise Lost(given)
    if _document((yield note))["target"] != "/users/7/notes":
        raise Lost(note)
    # A refund waits for a person: the answer says so and where to look; once approved, the same call again runs it.
    back = "refund", {"customer": "7", "amount": 5000}
    waiting = _document((yield back))
    if waiting["status"] != "PENDING_APPROVAL":
        raise Lost(waiting)
    place = "/.toolgate/approvals/" + waiting["approval"]
    stage = _document((yield "follow", {"method": "GET", "href": place}))
    if stage["status"] != "approved":
        raise Lost(stage)
    if _document((yield back))["body"] != '{"amount":5000}':
        raise Lost(back)
    # A deletion is held while the person decides: the tool's own call is answered when they have.
    gone = _document((yield "delete_customer", {"customer": "7"}))
    if gone["method"] != "DELETE":
        raise Lost(gone)
    return "Customer 7 is done. About customer 8 I was told: " + other["detail"]


def said(final):
    """The run's report for the test that watches it."""
    print(json.dumps({"final": final, "calls": seen}))
