"""The gRPC server of the notes: written for its agents, knowing nothing of a gate. Says its port, and ends with its input."""

import json
import os
import sys
import threading
from concurrent import futures

import grpc
from grpc_notes import SERVICE, pack, unpack

given_up = threading.Semaphore(0)


def read(request, context):
    """Unary. Leading and trailing metadata, and what the agent's metadata were."""
    seen = [[key, value if isinstance(value, str) else list(value)] for key, value in context.invocation_metadata()]
    context.send_initial_metadata((("x-lead", "first"),))
    context.set_trailing_metadata((("x-trail", "last"), ("x-trail-bin", b"\x00\xff\x01")))
    return {"note": request["note"], "text": "x" * request.get("size", 0), "seen": seen}


def missing(request, context):
    """An error before any message: status and details come in the trailers alone."""
    context.set_trailing_metadata((("x-why", "nobody wrote it"),))
    context.abort(grpc.StatusCode.NOT_FOUND, f"no note {request['note']}: grüße")


def watch(request, context):
    """Server streaming; fails after the last message where it is asked to."""
    for number in range(request["count"]):
        yield {"number": number}
    if request.get("fail"):
        context.set_trailing_metadata((("x-why", "ran dry"),))
        context.abort(grpc.StatusCode.DATA_LOSS, "the rest is lost")


def write(requests, context):
    """Client streaming."""
    return {"sum": sum(request["number"] for request in requests)}


def chat(requests, context):
    """Bidirectional streaming: each message is answered before the next is read."""
    for request in requests:
        yield {"echo": request["say"]}


def stall(request, context):
    """Does not answer; notes when it is given up."""
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait(60)
    given_up.release()
    return {}


def given(request, context):
    """Whether a stalled call was given up."""
    return {"given_up": given_up.acquire(timeout=30)}


def follow(request, context):
    """Server streaming without an end: one message, then silence until it is given up."""
    gone = threading.Event()
    context.add_callback(gone.set)
    yield {"number": 0}
    gone.wait(60)
    given_up.release()


shapes = {
    "Read": grpc.unary_unary_rpc_method_handler(read, unpack, pack),
    "Missing": grpc.unary_unary_rpc_method_handler(missing, unpack, pack),
    "Stall": grpc.unary_unary_rpc_method_handler(stall, unpack, pack),
    "Given": grpc.unary_unary_rpc_method_handler(given, unpack, pack),
    "Watch": grpc.unary_stream_rpc_method_handler(watch, unpack, pack),
    "Follow": grpc.unary_stream_rpc_method_handler(follow, unpack, pack),
    "Write": grpc.stream_unary_rpc_method_handler(write, unpack, pack),
    "Chat": grpc.stream_stream_rpc_method_handler(chat, unpack, pack),
}
server = grpc.server(futures.ThreadPoolExecutor(32))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, shapes),))
if "CERTIFICATE" in os.environ:
    with open(os.environ["KEY"], "rb") as key, open(os.environ["CERTIFICATE"], "rb") as certificate:
        credentials = grpc.ssl_server_credentials([(key.read(), certificate.read())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
else:
    port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(json.dumps({"port": port}), flush=True)
sys.stdin.read()
server.stop(None)
