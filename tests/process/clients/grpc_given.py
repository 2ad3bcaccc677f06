"""Asks the server of the notes whether a call was given up."""

import json

from grpc_channel import TOKEN, channel
from grpc_notes import pack, path, unpack

with channel() as wire:
    print(json.dumps(wire.unary_unary(path("Given"), pack, unpack)({}, metadata=TOKEN, timeout=60)))
