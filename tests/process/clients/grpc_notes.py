"""A gRPC service of notes: its methods in one table, for its server and for whoever calls it. JSON stands in for protobuf."""

import json

SERVICE = "demo.Notes"


def pack(message: object) -> bytes:
    return json.dumps(message).encode()


def unpack(text: bytes) -> object:
    return json.loads(text)


def path(method: str) -> str:
    return f"/{SERVICE}/{method}"
