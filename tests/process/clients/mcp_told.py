"""A tool's server of MCP that lists what the field `x-tools` says (JSON), or as many tools as `x-names` says, in the shape of
`x-shape`: `json`, `events`, or `both` (the list that was asked for is empty, and another one goes with it). `x-elsewhere`
has another call's answer bring a list for this id beside its own."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

SESSIONS = count(1)
KEPT = {}


class Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def say(self, kind, body, **fields):
        body = body.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def tools(self):
        named = int(self.headers.get("x-names", 0))
        if named:
            return [{"name": f"any/{n}", "description": "x", "inputSchema": {}} for n in range(named)]
        length = int(self.headers.get("x-long", 0))
        if length:
            return [{"name": "pay", "description": "x" * length, "inputSchema": {}}]
        return json.loads(self.headers.get("x-tools") or "[]")

    def listed(self, id_):
        text = json.dumps({"jsonrpc": "2.0", "id": id_, "result": {"tools": self.tools()}})
        return text.replace('"tools"', '"t\\u006fols"') if self.headers.get("x-escaped") else text

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        id_, method = message.get("id"), message.get("method")
        if method == "tools/list":
            if self.headers.get("x-shape") == "events":
                self.say("text/event-stream", f": hello\n\ndata: {self.listed(id_)}\n\ndata: {self.listed(id_)}\n\n")
            else:
                self.say("application/json", self.listed(id_))
            return
        result = json.dumps({"jsonrpc": "2.0", "id": id_, "result": {"content": [{"type": "text", "text": "done"}]}})
        if method == "initialize":
            session = f"session-{next(SESSIONS)}"
            KEPT[session] = self.listed(9)
            self.say("application/json", result, Mcp_Session_Id=session)
            return
        if method == "tools/call":
            print("ran", message["params"]["name"], flush=True)
        other = self.headers.get("x-elsewhere")
        if other:
            self.say("text/event-stream", f"data: {result}\n\ndata: {self.listed(int(other))}\n\n")
        else:
            self.say("application/json", result)

    def do_GET(self):
        self.say("text/event-stream", f"data: {KEPT[self.headers['mcp-session-id']]}\n\n")


server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
print("port", server.server_address[1], flush=True)
server.serve_forever()
