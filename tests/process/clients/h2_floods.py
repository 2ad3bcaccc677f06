"""Floods over HTTP/2, and heads that are none, by the hand of the package `h2`: it keeps the connection's state, and what it
would not send is written beside it. Says as JSON how each ended, and whether who keeps to the rules is served after each."""

import json
import os
import select
import socket
import struct
import time

import h2.config
import h2.connection
import h2.events
import hpack
from h2.settings import SettingCodes

HOST, PORT = os.environ["TARGET"].rsplit(":", 1)
TOKEN = os.environ["TOKEN"]

# A flood lasts no longer, sends no more, and has so long to be told.
SECONDS = 0.6
BYTES = 4 * 1024 * 1024
PATIENCE = 30

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ALTSVC, ORIGIN, UNKNOWN = 10, 12, 0xFA
END_STREAM, ACK, END_HEADERS = 1, 1, 4


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def call(method="GET", path="/t/reached"):
    return [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "g"),
        ("authorization", "Bearer " + TOKEN),
    ]


class Peer:
    """One connection."""

    def __init__(self, settings=None):
        self.socket = socket.create_connection((HOST, int(PORT)), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = h2.config.H2Configuration(
            client_side=True,
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            split_outbound_cookies=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        if settings:
            self.h2.local_settings = h2.settings.Settings(client=True, initial_values=settings)
        self.h2.initiate_connection()
        self.events = []
        self.closed = False
        self.sent = 0
        # For frames that h2 would not send: nothing of them goes into the table that both ends keep.
        self.encoder = hpack.Encoder()
        self.write(self.h2.data_to_send())
        # The gate's settings, so that what h2 allows is what the gate does.
        while not self.closed and not any(isinstance(it, h2.events.RemoteSettingsChanged) for it in self.events):
            self.read(PATIENCE)

    def block(self, fields):
        return self.encoder.encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields])

    def stream(self):
        return self.h2.get_next_available_stream_id()

    def open(self, fields, end=True):
        stream = self.stream()
        self.h2.send_headers(stream, fields, end_stream=end)
        return stream

    def read(self, seconds):
        """What came within so long, if anything."""
        if self.closed or not select.select([self.socket], [], [], seconds)[0]:
            return
        try:
            came = self.socket.recv(65536)
        except OSError:
            came = b""
        if not came:
            self.closed = True
            return
        try:
            self.events += self.h2.receive_data(came)
            self.write(self.h2.data_to_send())
        except h2.exceptions.ProtocolError:
            # h2's view of a connection that it was made to spoil; the gate's end is what is waited for.
            pass

    def write(self, data, until=None):
        """All of it, reading meanwhile: a flood that waits for nobody would else be stopped by its own answers."""
        view = memoryview(data)
        until = until or time.monotonic() + PATIENCE
        while view and not self.closed and time.monotonic() < until:
            readable, writable, _ = select.select([self.socket], [self.socket], [], 0.05)
            if readable:
                self.read(0)
            if writable and not self.closed:
                try:
                    sent = self.socket.send(view[:65536], socket.MSG_DONTWAIT)
                except BlockingIOError:
                    continue
                except OSError:
                    self.closed = True
                    return
                self.sent += sent
                view = view[sent:]

    def code(self):
        """What the gate said at the end."""
        said = [it.error_code for it in self.events if isinstance(it, h2.events.ConnectionTerminated)]
        return int(said[-1]) if said else None


def flood(each, first=None, settings=None):
    """`each` gives some bytes of it, again and again; nothing, when there is no more to send."""

    def run():
        began = time.monotonic()
        peer = Peer(settings)
        state = first(peer) if first else None
        until = began + SECONDS
        while not peer.closed and time.monotonic() < until and peer.sent < BYTES:
            piece = bytearray()
            while len(piece) < 16 * 1024:
                try:
                    some = each(peer, state)
                except (h2.exceptions.ProtocolError, h2.exceptions.H2Error):
                    # Not h2's to send now: the window is used up, or it has been told that all is over.
                    some = b""
                some = peer.h2.data_to_send() + (some or b"")
                if not some:
                    break
                piece += some
            if piece:
                peer.write(piece, until)
            else:
                peer.read(0.05)
        return peer, began

    return run


def own(act):
    """What h2 itself sends."""

    def each(peer, state):
        act(peer, state)
        return b""

    return each


def raw_call(peer, stream, end=True, fields=None):
    flags = END_HEADERS | (END_STREAM if end else 0)
    return frame(HEADERS, flags, stream, peer.block(fields or call()))


def numbered(make):
    """Streams of its own numbering, which h2 knows nothing of."""
    following = iter(range(1, 2**31, 2))
    return lambda peer, _: make(peer, next(following))


def reset_at_once(peer, _):
    peer.h2.reset_stream(peer.open(call()), 8)


def reset_with_body(peer, _):
    peer.h2.reset_stream(peer.open(call("POST"), end=False), 8)


def opened(fields=None, end=False):
    def first(peer):
        stream = peer.open(fields or call("POST"), end=end)
        peer.write(peer.h2.data_to_send())
        return stream

    return first


def begun(peer):
    peer.write(frame(HEADERS, END_STREAM, 1, peer.block(call())))
    return 1


def a_hundred(peer):
    for _ in range(100):
        peer.open(call(path="/t/big"))
    peer.write(peer.h2.data_to_send())


def bomb(peer, stream):
    block = peer.block(call()) + b"\x40\x01x" + b"\x7f\xa1\x1e" + b"y" * 4000 + b"\xbe" * 8000
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, block)


def windows(size):
    return {SettingCodes.INITIAL_WINDOW_SIZE: size}


def resized(peer, _):
    return b"".join(frame(SETTINGS, 0, 0, struct.pack(">HI", 1, size)) for size in (0, 4096))


# Each with what starts it; whether the gate must end it is for the test to say.
FLOODS = {
    "rapid reset": flood(own(reset_at_once)),
    "rapid reset of calls with a body": flood(own(reset_with_body)),
    "resets made by a window of nothing": flood(
        numbered(lambda peer, n: raw_call(peer, n) + frame(WINDOW_UPDATE, 0, n, bytes(4)))
    ),
    "resets made by a window that overflows": flood(
        numbered(lambda peer, n: raw_call(peer, n) + frame(WINDOW_UPDATE, 0, n, b"\x7f\xff\xff\xff"))
    ),
    "resets made by data behind the end": flood(
        numbered(lambda peer, n: raw_call(peer, n) + frame(DATA, 0, n, b"more"))
    ),
    "resets made by a head behind the end": flood(
        numbered(lambda peer, n: raw_call(peer, n) + raw_call(peer, n))
    ),
    "resets made by a priority on oneself": flood(
        numbered(lambda peer, n: raw_call(peer, n) + frame(PRIORITY, 0, n, struct.pack(">IB", n, 9)))
    ),
    "resets made by a priority that is too short": flood(
        numbered(lambda peer, n: raw_call(peer, n) + frame(PRIORITY, 0, n, bytes(4)))
    ),
    "resets made by a length that is not kept": flood(
        numbered(
            lambda peer, n: raw_call(peer, n, False, call("POST") + [("content-length", "1")])
            + frame(DATA, END_STREAM, n, b"more")
        )
    ),
    "heads without a method": flood(numbered(lambda peer, n: raw_call(peer, n, True, call()[1:]))),
    "streams beyond those allowed": flood(numbered(lambda peer, n: raw_call(peer, n, False, call("POST")))),
    "resets of one stream": flood(
        lambda peer, stream: frame(RST_STREAM, 0, stream, struct.pack(">I", 8)), opened(call(), True)
    ),
    "SETTINGS": flood(own(lambda peer, _: peer.h2.update_settings(windows(70_000)))),
    "SETTINGS that resize the table": flood(resized),
    "acknowledgements of SETTINGS": flood(lambda peer, _: frame(SETTINGS, ACK, 0)),
    "PING": flood(own(lambda peer, _: peer.h2.ping(b"12345678"))),
    "answers to no PING": flood(lambda peer, _: frame(PING, ACK, 0, bytes(8))),
    "PRIORITY": flood(numbered(lambda peer, n: frame(PRIORITY, 0, n % 999 + 2, struct.pack(">IB", 0, 9)))),
    "CONTINUATION without end": flood(
        lambda peer, stream: frame(CONTINUATION, 0, stream, peer.block([("x", "y")])), begun
    ),
    "empty CONTINUATION": flood(lambda peer, stream: frame(CONTINUATION, 0, stream), begun),
    "empty DATA": flood(own(lambda peer, stream: peer.h2.send_data(stream, b"")), opened()),
    "padding alone": flood(own(lambda peer, stream: peer.h2.send_data(stream, b"", pad_length=255)), opened()),
    "DATA of one byte": flood(own(lambda peer, stream: peer.h2.send_data(stream, b"x")), opened()),
    "a hundred answers and a window of nothing": flood(lambda peer, _: b"", a_hundred, windows(0)),
    "a window of one byte, and one more each time": flood(
        own(lambda peer, stream: peer.h2.increment_flow_control_window(1, stream)),
        opened(call(path="/t/big"), True),
        windows(1),
    ),
    "WINDOW_UPDATE": flood(own(lambda peer, _: peer.h2.increment_flow_control_window(1))),
    "a table that unfolds": flood(numbered(bomb)),
    "fields without names": flood(numbered(lambda peer, n: raw_call(peer, n, True, call() + [("", "")] * 100))),
    "fields without number": flood(numbered(lambda peer, n: raw_call(peer, n, True, call() + [("x", "")] * 3000))),
    "frames that nobody knows": flood(lambda peer, _: frame(UNKNOWN, 0, 0, bytes(8))),
    "ALTSVC and ORIGIN": flood(lambda peer, _: frame(ALTSVC, 0, 0, bytes(8)) + frame(ORIGIN, 0, 0)),
    "GOAWAY": flood(lambda peer, _: frame(GOAWAY, 0, 0, bytes(8))),
    "PUSH_PROMISE": flood(
        lambda peer, stream: frame(PUSH_PROMISE, END_HEADERS, stream, struct.pack(">I", 2) + peer.block(call())),
        opened(call(), True),
    ),
}


def changed(change):
    fields = call()
    change(fields)
    return fields


def with_last(name, value):
    return call() + [(name, value)]


def with_first(name, value):
    return [(name, value)] + call()


def without(name):
    return [field for field in call() if field[0] != name]


def put(name, value):
    return [(each, value if each == name else was) for each, was in call()]


HEADS = {
    "two methods": with_first(":method", "POST"),
    "two paths": with_first(":path", "/t/other"),
    "two authorities": with_first(":authority", "other"),
    "no method": without(":method"),
    "no path": without(":path"),
    "no scheme": without(":scheme"),
    "no authority": without(":authority"),
    "an empty path": put(":path", ""),
    "a path without a slash": put(":path", "t/reached"),
    "a path with a line in it": put(":path", "/t/reached HTTP/1.1\r\nx: y"),
    "a path with dots": put(":path", "/t/../t/reached"),
    "a method with a line in it": put(":method", "GET / HTTP/1.1\r\nx: y"),
    "CONNECT": put(":method", "CONNECT"),
    "TRACE": put(":method", "TRACE"),
    "a pseudo-field behind others": with_last(":path", "/t/reached"),
    "an unknown pseudo-field": with_first(":order", "1"),
    "a pseudo-field of answers": with_first(":status", "200"),
    "a Host that differs": with_last("host", "other"),
    "a name in capitals": with_last("X-Capital", "1"),
    "an empty name": with_last("", "1"),
    "a name with a line in it": with_last("x\r\ny", "1"),
    "a value with a line in it": with_last("x-a", "1\r\ny: 2"),
    "a value with NUL": with_last("x-a", "1\0"),
    "Connection": with_last("connection", "close"),
    "Transfer-Encoding": with_last("transfer-encoding", "chunked"),
    "Upgrade": with_last("upgrade", "h2c"),
    "TE": with_last("te", "gzip"),
    "a length and no body": with_last("content-length", "5"),
    "two lengths": call() + [("content-length", "0"), ("content-length", "1")],
}


def asked(fields):
    """A call's status; the name of what came instead."""
    peer = Peer()
    stream = peer.open(fields)
    peer.write(peer.h2.data_to_send())
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for event in peer.events:
            if isinstance(event, h2.events.ResponseReceived) and event.stream_id == stream:
                peer.socket.close()
                return int(dict(event.headers)[":status"])
            if isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                peer.socket.close()
                return type(event).__name__
        if peer.closed:
            return "closed"
        peer.read(0.1)
    return "silence"


def floods():
    ended = {}
    waiting = set(os.environ["WAITING"].split("|"))
    for name, run in FLOODS.items():
        peer, began = run()
        # Whoever is to be told has time to hear it; the others stand where they are.
        until = time.monotonic() + (0 if name in waiting else PATIENCE)
        while not peer.closed and time.monotonic() < until:
            peer.read(0.1)
        ended[name] = {
            "closed": peer.closed,
            "code": peer.code(),
            "bytes": peer.sent,
            "seconds": time.monotonic() - began,
            "then": asked(call()),
        }
        peer.socket.close()
    return ended


print(json.dumps({"floods": floods(), "heads": {name: asked(fields) for name, fields in HEADS.items()}}))
