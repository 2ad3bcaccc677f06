"""A webhook receiver on `standardwebhooks`: verifies what comes with every secret it is given, and says what it got.

It answers 204 to what verifies and 400 to what does not. The first answers may be told in ANSWERS; 0 is to stall. With
CERTIFICATE and KEY it speaks TLS.
"""

import json
import os
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

secrets = os.environ["SECRETS"].split()
answers = [int(status) for status in os.environ.get("ANSWERS", "").split()]


def verified(secret: str, body: bytes, headers: dict) -> bool:
    try:
        Webhook(secret).verify(body, headers)
    except Exception:
        return False
    return True


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = dict(self.headers)
        good = [verified(secret, body, headers) for secret in secrets]
        status = answers.pop(0) if answers else 204 if any(good) else 400
        # Said before it is answered: what the gate takes for delivered has been written down here.
        line = {"id": self.headers["webhook-id"], "good": good, "answered": status, "path": self.path}
        print(json.dumps(line | {"event": json.loads(body)}), flush=True)
        if status == 0:
            time.sleep(3600)
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


server = Server(("127.0.0.1", int(sys.argv[1])), Receiver)
if "CERTIFICATE" in os.environ:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["CERTIFICATE"], os.environ["KEY"])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print("port", server.server_address[1], flush=True)
server.serve_forever()
