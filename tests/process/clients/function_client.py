"""Tools that are functions: a decorator asks the gate before each of them acts, over OpenID AuthZEN, with `httpx`.

It is all that a program needs: one POST, and to act on a `true` once. What it was told otherwise goes to the model.
"""

import functools
import inspect
import json
import os

import httpx

GATE = httpx.Client(
    base_url=os.environ["GATE_URL"],
    headers={"Authorization": "Bearer " + os.environ["TOKEN"]},
    timeout=60,
)


class Refused(Exception):
    """The gate said no; the text is for the model."""


def guarded(action: str, resource: str, key: str):
    """Asks whether `action` may be done to the `resource` whose id is the argument `key`."""

    def decorate(function):
        signature = inspect.signature(function)

        @functools.wraps(function)
        def asks_first(*args, **kwargs):
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            question = {
                "subject": {"type": "session"},
                "action": {"name": action},
                "resource": {"type": resource, "id": str(bound.arguments[key])},
                "context": {"args": bound.arguments, "intent": "tidy up the accounts"},
            }
            answer = GATE.post("/.toolgate/access/v1/evaluation", json=question)
            answer.raise_for_status()
            said = answer.json()
            if said["decision"] is True:
                return function(*args, **kwargs)
            raise Refused(said["context"]["reason"] + ": " + said["context"]["detail"])

        return asks_first

    return decorate


ACTED = []


@guarded("find_user", "user", "user_id")
def find_user(user_id: str):
    ACTED.append(["find", user_id])
    return {"id": user_id}


@guarded("delete_user", "user", "user_id")
def delete_user(user_id: str, hard: bool = False):
    ACTED.append(["delete", user_id, hard])
    return "deleted"


def tried(call, *args, **kwargs):
    try:
        return call(*args, **kwargs)
    except Refused as refused:
        return str(refused)


def requested(user_id: str):
    """The same as the access request profile has it: ask who is asked, poll, ask again with what was agreed to."""
    question = {
        "subject": {"type": "session"},
        "action": {"name": "delete_user"},
        "resource": {"type": "user", "id": user_id},
        "context": {"args": {"user_id": user_id, "hard": True}},
    }
    path = "/.toolgate/access/v1/evaluation"
    denied = GATE.post(path, json=question, headers={"Prefer": "respond-async"}).json()
    context = denied["context"]
    request = context["access_request"]
    submission = question | {"denial": {"evaluation_id": context["evaluation_id"], "expires_at": request["expires_at"]}}
    submitted = GATE.post(request["endpoint"], json=submission)
    task = submitted.json()["task"]
    print(json.dumps({"task": task["id"], "submitted": submitted.status_code}), flush=True)
    # Polled for as long as it takes; the answer waits for news.
    while task["status"] == "pending":
        polled = GATE.get(task["status_endpoint"], headers={"Prefer": "wait=20"}).json()
        task = polled["task"]
    if task["status"] != "approved":
        return task["status"]
    question["context"]["approval"] = polled["result"]["approval"]
    first = GATE.post(path, json=question).json()
    second = GATE.post(path, json=question).json()
    return [first["decision"], second["decision"], second["context"]["next_action"]]


print(json.dumps({"ready": True}), flush=True)
result = {
    "found": tried(find_user, "9"),
    "outside": tried(delete_user, "8"),
    "waited": tried(delete_user, "7"),
    "denied": tried(delete_user, "7", hard=True),
    "requested": requested("7x"),
    "acted": ACTED,
}
print(json.dumps(result), flush=True)
