"""A tool's server of MCP that answers as the field `x-answer` says: lists in every shape, well formed and not. By default it
says what reached it, byte for byte. Sessions are counted."""

import gzip
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Event

SESSIONS = count(1)
RELEASED = Event()
TOOLS = [{"name": "pay", "inputSchema": {"type": "object", "x": 1.5}}, {"name": "wipe", "inputSchema": {}}]


def listed(id_):
    return json.dumps({"jsonrpc": "2.0", "id": id_, "result": {"tools": TOOLS, "nextCursor": "c", "cacheScope": "public"}})


def answers(name, id_):
    """Media type, body and whether it is compressed."""
    whole = listed(id_)
    note = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x"}})
    return {
        "list": ("application/json", whole),
        "events": ("text/event-stream", f": hello\n\nid: 0\ndata:\n\nevent: message\ndata: {note}\n\nevent: message\nid: 1\ndata: {whole}\n\n"),
        "returns": ("text/event-stream", f"data: {note}\r\rdata: {whole}\r\r"),
        "cut": ("text/event-stream", "data: " + whole.replace(", ", ",\ndata: ") + "\n\n"),
        "unended": ("text/event-stream", f"data: {whole}"),
        "text": ("text/plain", whole),
        "batch": ("application/json", f"[{whole}]"),
        "twice": ("application/json", whole.replace('"tools"', '"tools": [], "tools"', 1)),
        "garbled": ("application/json", whole[:-9]),
        "garbled-events": ("text/event-stream", f"data: {whole[:-9]}\n\n"),
        "strange": ("application/json", json.dumps({"jsonrpc": "2.0", "id": id_, "result": {"tools": ["wipe"]}})),
        "huge": ("application/json", whole[:-1] + " " * (9 << 20) + "}"),
        "half": ("text/event-stream", f"data: {note}\n\ndata: {whole}\n\ndata: {whole[:-9]}\n\ndata: {note}\n\n"),
        "packed-wide": ("application/json", whole.encode("utf-16")),
        # Failures, and none of them a list.
        "words": ("application/json", "upstream connect error {reset}"),
        "word": ("application/json", '"unavailable {}"'),
        "nothing": ("application/json", "null"),
        "complaints": ("application/json", '[{"message": "down", "tools": ["wipe"]}, 7]'),
        "object": ("application/json", '{"message":"down"}'),
        "page": ("text/html", "<style>p {}</style><p>down</p>"),
        "error": ("application/json", json.dumps({"jsonrpc": "2.0", "id": id_, "error": {"code": -32603, "message": "no"}})),
    }.get(name)


class Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def say(self, kind, body, **fields):
        body = body if isinstance(body, bytes) else body.encode()
        if self.headers.get("x-compress"):
            body, fields["Content-Encoding"] = gzip.compress(body), "gzip"
        self.send_response(int(self.headers.get("x-status") or 200))
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"whole"')
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        print("ran", json.dumps(body), flush=True)
        message = json.loads(body)
        id_ = message.get("id")
        if "method" not in message or id_ is None:
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.headers.get("x-answer") == "late":
            RELEASED.wait(60)
        if self.headers.get("x-answer") == "release":
            RELEASED.set()
        if message["method"] == "server/discover":
            self.say("application/json", json.dumps({"jsonrpc": "2.0", "id": id_, "result": {"capabilities": {"tools": {}}}}))
            return
        chosen = answers(self.headers.get("x-answer"), id_)
        if chosen:
            self.say(*chosen)
            return
        saw = {"body": body, "fields": [[k.lower(), v] for k, v in self.headers.items()], "path": self.path}
        result = {"jsonrpc": "2.0", "id": id_, "result": {"content": [], "saw": saw}}
        if message["method"] == "initialize":
            self.say("application/json", json.dumps(result), Mcp_Session_Id=f"session-{next(SESSIONS)}")
        elif self.headers.get("x-answer") == "stream":
            token = message["params"].get("_meta", {}).get("progressToken")
            note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}}
            self.say("text/event-stream", f"data: {json.dumps(note)}\n\ndata: {json.dumps(result)}\n\n")
        else:
            self.say("application/json", json.dumps(result))

    def do_GET(self):
        print("stream", self.headers.get("mcp-session-id"), flush=True)
        self.say(*answers("events", 7))

    def do_DELETE(self):
        print("end", self.headers.get("mcp-session-id"), flush=True)
        self.say("application/json", "{}")


server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
print("port", server.server_address[1], flush=True)
server.serve_forever()
