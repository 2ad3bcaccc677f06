"""An agent's gRPC tool on `grpcio`: written for the server, unchanged but for target and token."""

import json
import queue
import time
from concurrent import futures

import grpc
from grpc_channel import TOKEN, channel
from grpc_notes import pack, path, unpack

with channel() as wire:

    def unary(method, request, **options):
        return wire.unary_unary(path(method), pack, unpack)(request, metadata=TOKEN, **{"timeout": 60, **options})

    def failure(call):
        """Status, details and trailing metadata of a call that fails."""
        try:
            call()
        except grpc.RpcError as error:
            why = dict(error.trailing_metadata() or ()).get("x-why")
            return [error.code().name, error.details(), why]
        return None

    said, call = wire.unary_unary(path("Read"), pack, unpack).with_call(
        {"note": "seven", "size": 1_000_000},
        metadata=TOKEN + (("x-agent", "mine"), ("x-agent-bin", b"\x00\xfe")),
        timeout=60,
    )
    trailing = dict(call.trailing_metadata())
    read = {
        "note": said["note"],
        "size": len(said["text"]),
        "seen": said["seen"],
        "lead": dict(call.initial_metadata()).get("x-lead"),
        "trail": trailing.get("x-trail"),
        "binary": list(trailing.get("x-trail-bin", b"")),
        "code": call.code().name,
    }

    watch = wire.unary_stream(path("Watch"), pack, unpack)
    watched = [message["number"] for message in watch({"count": 200}, metadata=TOKEN, timeout=60)]

    got = []

    def drain():
        for message in watch({"count": 3, "fail": True}, metadata=TOKEN, timeout=60):
            got.append(message["number"])

    broken = failure(drain)

    write = wire.stream_unary(path("Write"), pack, unpack)
    written = write(({"number": number} for number in range(1000)), metadata=TOKEN, timeout=60)["sum"]

    # Each message waits for the answer to the one before it.
    turns: queue.Queue = queue.Queue()
    turns.put("message 0")
    heard = []
    talk = wire.stream_stream(path("Chat"), pack, unpack)
    for answer in talk(({"say": say} for say in iter(turns.get, None)), metadata=TOKEN, timeout=60):
        heard.append(answer["echo"])
        turns.put(f"message {len(heard)}" if len(heard) < 10 else None)

    began = time.monotonic()
    late = failure(lambda: unary("Stall", {}, timeout=1))
    waited = time.monotonic() - began
    given_up = unary("Given", {})["given_up"]

    with futures.ThreadPoolExecutor(50) as pool:
        crowd = list(pool.map(lambda number: unary("Read", {"note": str(number)})["note"], range(200)))

    print(
        json.dumps(
            {
                "read": read,
                "missing": failure(lambda: unary("Missing", {"note": "eight"})),
                "watched": watched,
                "broken": [got, broken],
                "written": written,
                "heard": heard,
                "late": [late[0], 0.9 < waited < 10],
                "given_up": given_up,
                "crowd": crowd,
                "refused": failure(lambda: unary("Erase", {})),
            }
        )
    )
