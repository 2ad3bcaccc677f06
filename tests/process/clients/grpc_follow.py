"""Follows a stream without an end, and says each message as soon as it has it; then how it ended."""

import json

import grpc
from grpc_channel import TOKEN, channel
from grpc_notes import pack, path, unpack

with channel() as wire:
    stream = wire.unary_stream(path("Follow"), pack, unpack)({}, metadata=TOKEN, timeout=120)
    try:
        for message in stream:
            print(json.dumps(message), flush=True)
        print(json.dumps({"end": "OK"}), flush=True)
    except grpc.RpcError as error:
        print(json.dumps({"end": error.code().name}), flush=True)
