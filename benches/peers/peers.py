"""What is compared: how each proxy is configured for the same work, and how its records are counted.

The work: an opaque bearer token is looked up among as many as there are (else 401), `GET` and `POST` below `/v1/tools/` pass and nothing else
does (else 403), each token has a limit of its own (else 429), and each call of a known token leaves one record in a file (the gate: two, the
decision before the call goes on, and what came of it). `plain` peers forward everything and record nothing.
"""

import base64
import binascii
import hashlib
import json
import os
import pathlib
import re
import resource
import secrets
import shutil
import signal
import subprocess
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
OUT = TOP / "target" / "peers"


@dataclass
class Setting:
    """One start of one peer."""

    folder: pathlib.Path
    port: int
    backend: int
    ports: list
    workers: int = 1
    plain: bool = False
    limit: int = 1_000_000
    """Calls a second of each token."""
    http2: bool = False
    """HTTP/2 without TLS: nginx and haproxy must be told."""
    tls: tuple = ()
    """Certificate, key, both in one file."""
    tokens: pathlib.Path = None

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def sessions(self):
        return self.tokens.read_text().split()


def lines_with(text, paths):
    """Lines of these files that have the text."""
    said = subprocess.run(["grep", "--count", "--no-filename", "--fixed-strings", text, *map(str, paths)], capture_output=True, text=True,
                          env={**os.environ, "LC_ALL": "C"}).stdout
    return sum(map(int, said.split()))


class Peer:
    """A proxy: its command, and where its records are."""

    records = "records.log"
    each = 1
    stop_signal = signal.SIGTERM

    def __init__(self, name, plain=False):
        self.name = name
        self.plain = plain

    def count(self, setting):
        """Records of calls of known tokens."""
        return lines_with('"session":"s', [setting.folder / self.records])

    def environment(self):
        return {}


class Nginx(Peer):
    def version(self):
        said = subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True).stderr
        return said.strip().split("/")[-1]

    def command(self, it, single=False):
        it.write("tokens.map", "".join(f'"Bearer {token}" s{number};\n' for number, token in enumerate(it.sessions())))
        policy = """
  map_hash_max_size 262144; map_hash_bucket_size 128;
  map $http_authorization $session { default ""; include tokens.map; }
  limit_req_zone $session zone=sessions:64m rate=%dr/s; limit_req_status 429;
  log_format record escape=json '{"ts":$msec,"session":"$session","method":"$request_method","path":"$uri","status":$status,"upstream":"$upstream_addr","seconds":$request_time}';
  access_log records.log record buffer=64k flush=1s;""" % it.limit
        forward = 'proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";'
        where = """if ($session = "") { return 401; }
    location /v1/tools/ { limit_except GET POST { deny all; } limit_req zone=sessions burst=%d nodelay; %s }
    location / { return 403; }""" % (min(it.limit, 1000), forward)
        if it.plain:
            policy, where = "\n  access_log off;", "location / { %s }" % forward
        listen = f"127.0.0.1:{it.port} backlog=4096"
        listen += " reuseport" if it.workers > 1 else ""
        listen += " ssl http2" if it.tls else " http2" if it.http2 else ""
        tls = f"ssl_certificate {it.tls[0]}; ssl_certificate_key {it.tls[1]};" if it.tls else ""
        process = "master_process off;" if single else ""
        # Its workers use the folder of this run, which is its owner's alone.
        user = "user root;" if os.geteuid() == 0 else ""
        path = it.write("nginx.conf", f"""worker_processes {it.workers}; daemon off; {process} {user} pid nginx.pid; error_log error.log warn;
events {{ worker_connections 24000; }}
http {{{policy}
  keepalive_requests 1000000000; keepalive_timeout 300s;
  client_body_buffer_size 128k; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  proxy_read_timeout 300s;
  upstream backend {{ server 127.0.0.1:{it.backend}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{ listen {listen}; {tls}
    {where}
  }}
}}
""")
        return ["/usr/sbin/nginx", "-p", f"{it.folder}/", "-c", str(path), "-e", f"{it.folder}/error.log"]


class Haproxy(Peer):
    # It has no file of its own: records go to its output, one write each, which is sent to a file.
    records = "haproxy.out"

    def version(self):
        said = subprocess.run(["/usr/sbin/haproxy", "-v"], capture_output=True, text=True).stdout
        return re.search(r"version (\S+?)[-+ ]", said)[1]

    def command(self, it, single=False):
        it.write("tokens.map", "".join(f"{token} s{number}\n" for number, token in enumerate(it.sessions())))
        policy = """
  http-request set-var(txn.session) http_auth_bearer,map_str(%s/tokens.map)
  http-request deny deny_status 401 unless { var(txn.session) -m found }
  http-request deny deny_status 403 unless { path_beg /v1/tools/ } { method GET POST }
  http-request track-sc0 var(txn.session) table sessions
  http-request deny deny_status 429 if { sc_http_req_rate(0,sessions) gt %d }
  log stdout format raw local0
  log-format '{"ts":%%Ts.%%ms,"session":"%%[var(txn.session)]","method":"%%HM","path":"%%HP","status":%%ST,"upstream":"%%s","ms":%%Ta}'
""" % (it.folder, it.limit)
        table = "backend sessions\n  stick-table type string len 32 size 200k expire 60s store http_req_rate(1s)\n"
        if it.plain:
            policy, table = "", ""
        bind = f"127.0.0.1:{it.port} backlog 4096"
        bind += " shards by-thread" if it.workers > 1 else ""
        bind += f" ssl crt {it.tls[2]} alpn h2,http/1.1" if it.tls else " proto h2" if it.http2 else ""
        path = it.write("haproxy.cfg", f"""global
  nbthread {it.workers}
  maxconn {min(24000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 200)}
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
  http-reuse always
frontend agents
  bind {bind}
{policy}
  default_backend tools
{table}
backend tools
  server one 127.0.0.1:{it.backend} pool-max-conn 1024
""")
        return ["/usr/sbin/haproxy", "-db", "-f", str(path)]


class Envoy(Peer):
    def binary(self):
        found = list((OUT / "envoy").glob("lib/python*/site-packages/envoy/_bin/envoy"))
        return str(found[0])

    def version(self):
        said = subprocess.run([self.binary(), "--version"], capture_output=True, text=True).stdout
        return re.search(r"/(\d+\.\d+\.\d+)", said)[1]

    def command(self, it, single=False):
        def kind(name):
            return f"type.googleapis.com/envoy.extensions.{name}"

        def named(name, kind_of, **settings):
            return {"name": name, "typed_config": {"@type": kind(kind_of), **settings}}

        forward = {"cluster": "tools", "timeout": "0s"}
        router = named("envoy.filters.http.router", "filters.http.router.v3.Router", suppress_envoy_headers=True)
        filters, routes, records = [router], [{"match": {"prefix": "/"}, "route": forward}], []
        whole = {"numerator": 100, "denominator": "HUNDRED"}
        if not it.plain:
            keys = [{"key": token, "client": f"s{number}"} for number, token in enumerate(it.sessions())]
            limited = {"max_tokens": it.limit, "tokens_per_fill": it.limit, "fill_interval": "1s"}
            filters = [
                named("envoy.filters.http.api_key_auth", "filters.http.api_key_auth.v3.ApiKeyAuth", credentials=keys,
                      key_sources=[{"header": "Authorization"}], forwarding={"header": "x-session"}),
                named("envoy.filters.http.local_ratelimit", "filters.http.local_ratelimit.v3.LocalRateLimit", stat_prefix="limit",
                      max_dynamic_descriptors=len(keys) + 1, token_bucket={"max_tokens": 10**9, "tokens_per_fill": 10**9, "fill_interval": "1s"},
                      filter_enabled={"default_value": whole}, filter_enforced={"default_value": whole},
                      rate_limits=[{"actions": [{"request_headers": {"header_name": "x-session", "descriptor_key": "session"}}]}],
                      descriptors=[{"entries": [{"key": "session"}], "token_bucket": limited}]),
                router,
            ]
            method = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|POST"}}}
            routes = [{"match": {"prefix": "/v1/tools/", "headers": [method]}, "route": forward},
                      {"match": {"prefix": "/"}, "direct_response": {"status": 403}}]
            line = ('{"ts":"%START_TIME%","session":"%REQ(x-session)%","method":"%REQ(:METHOD)%","path":"%REQ(:PATH)%",'
                    '"status":%RESPONSE_CODE%,"upstream":"%UPSTREAM_HOST%","ms":%DURATION%}\n')
            records = [named("envoy.access_loggers.file", "access_loggers.file.v3.FileAccessLog", path=f"{it.folder}/records.log",
                             log_format={"text_format_source": {"inline_string": line}})]
        manager = named("envoy.filters.network.http_connection_manager",
                        "filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix="agents", codec_type="AUTO",
                        generate_request_id=False, http_filters=filters, access_log=records, stream_idle_timeout="0s",
                        route_config={"name": "routes", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]})
        chain = {"filters": [manager]}
        if it.tls:
            files = {"certificate_chain": {"filename": str(it.tls[0])}, "private_key": {"filename": str(it.tls[1])}}
            chain["transport_socket"] = named("envoy.transport_sockets.tls", "transport_sockets.tls.v3.DownstreamTlsContext",
                                              common_tls_context={"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [files]})

        def place(port):
            return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

        most = {"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}
        path = it.write("envoy.json", json.dumps({"static_resources": {
            "listeners": [{"name": "agents", "address": place(it.port), "filter_chains": [chain]}],
            "clusters": [{"name": "tools", "type": "STATIC", "connect_timeout": "5s", "circuit_breakers": {"thresholds": [most]},
                          "load_assignment": {"cluster_name": "tools", "endpoints": [
                              {"lb_endpoints": [{"endpoint": {"address": place(it.backend)}}]}]}}]}}))
        return [self.binary(), "-c", str(path), "--concurrency", str(it.workers), "-l", "error", "--disable-hot-restart"]


def key():
    """A principal's key, as `toolgate key new` makes one, and its digest."""

    def text(data):
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    made = "tgk_" + text(secrets.token_bytes(32))
    made += text(binascii.crc32(made.encode()).to_bytes(4, "big"))
    return made, hashlib.sha256(made.encode()).hexdigest()


LIMIT = "  - { id: calls, per: session, rate: %d/1s, burst: %d }"

# The gate as it is compared, less or more of one thing each. What is said of a variant is what differs from `gate`.
VARIANTS = {
    "": "token, route, scope, resource, grant, limit, two records at `written`",
    "no-limit": "no limit",
    "no-resource": "routes without `resource`",
    "batched": "ledger `batched`",
    "sync": "ledger `sync`",
    "beside": "another 64 routes with conditions, body limits and approvals, which these calls don't take",
    "condition": "the route has a condition on the query",
    "body": "the route has a condition on a JSON body, read whole (POST of 200 bytes)",
    "limits": "five limits: per session, agent and project, and one of counts",
    "post": "as the first, POST of 200 bytes: to compare `body` with",
}


class Gate(Peer):
    """The gate. Its sessions are minted once, through its admin API, and each start gets a copy of that store."""

    each = 2

    def __init__(self, binary, variant="", name="gate", routes=0):
        super().__init__(name)
        self.binary = str(binary)
        self.variant = variant
        self.routes = routes
        self.store = OUT / "store"
        self.key = None

    def version(self):
        return subprocess.run([self.binary, "--version"], capture_output=True, text=True).stdout.split()[-1]

    def project(self, it):
        resource = "" if self.variant == "no-resource" else ", resource: 'tool:{name}'"
        ceiling = "" if self.variant == "no-resource" else ", resources: ['tool:*']"
        where = {
            "condition": ", where: { query.q: { matches: '[a-z]{1,40}' } }",
            "body": ", where: { body./amount: { at_most: 100 } }",
        }.get(self.variant, "")
        limits = [LIMIT % (it.limit, min(it.limit, 1000) if it.limit < 1_000_000 else 1_000_000)]
        if self.variant == "no-limit":
            limits = []
        if self.variant == "limits":
            limits += [
                "  - { id: reads, per: session, scope: tools.read, rate: 1000000/1s, burst: 1000000 }",
                "  - { id: agent, per: agent, rate: 10000000/1s, burst: 1000000 }",
                "  - { id: project, per: project, rate: 10000000/1s, burst: 1000000 }",
                "  - { id: agent-reads, per: agent, scope: tools.read, rate: 10000000/1s, burst: 1000000 }",
            ]
        routes = [
            f"      - {{ id: tools.read, match: 'GET /{{name}}', scope: tools.read{resource}{where if self.variant != 'body' else ''} }}",
            f"      - {{ id: tools.write, match: 'POST /{{name}}', scope: tools.write{resource}{where if self.variant == 'body' else ''} }}",
            f"      - {{ id: tools.ask, match: 'POST /ask/{{name}}', scope: tools.write{resource}, approval: default }}",
        ]
        routes += [f"      - {{ id: more.{number}, match: 'GET /more{number}/{{name}}', scope: tools.read{resource} }}" for number in range(self.routes)]
        if self.variant == "beside":
            for number in range(16):
                routes += [
                    f"      - {{ id: a.{number}, match: 'GET /a{number}/{{name}}', scope: tools.read{resource}, where: {{ query.q: {{ one_of: [a, b] }} }} }}",
                    f"      - {{ id: b.{number}, match: 'POST /b{number}/{{name}}', scope: tools.write{resource}, body_limit: 1KiB, where: {{ body./amount: {{ at_most: 100 }} }} }}",
                    f"      - {{ id: c.{number}, match: 'POST /c{number}/{{name}}', scope: tools.write{resource}, approval: default }}",
                    f"      - {{ id: d.{number}, match: 'DELETE /d{number}/{{name}}', scope: tools.write{resource} }}",
                ]
        return "\n".join([
            "version: 1",
            "project: peers",
            "agents:",
            "  bot:",
            "    session: { ttl: 24h, max_ttl: 24h }",
            "    scopes:",
            f"      tools.read: {{ grant: on_use{ceiling} }}",
            f"      tools.write: {{ grant: on_use{ceiling} }}",
            "tools:",
            "  tools:",
            "    mount: /v1/tools",
            "    upstream:",
            f"      url: http://127.0.0.1:{it.backend}/v1/tools",
            "      credential: { header: authorization, value: Bearer of-the-backend-0123456789 }",
            "    routes:",
            *routes,
            *(["limits:", *limits] if limits else []),
            "approvals:",
            "  default: { approvers: [people], quorum: 1, hold: 300s, expires: 1h }",
            "",
        ])

    def command(self, it, single=False):
        level = self.variant if self.variant in ("batched", "sync") else "written"
        self.key, digest = key()
        tls = f", tls: {{ certificate: {it.tls[0]}, private_key: {it.tls[1]} }}" if it.tls else ""
        it.write("project.yaml", self.project(it))
        path = it.write("toolgate.yaml", f"""version: 1
workers: {it.workers}
listeners:
  agents: {{ address: "127.0.0.1:{it.port}"{tls}, timeouts: {{ idle: 300s }} }}
  admin: {{ address: "127.0.0.1:{it.ports[0]}" }}
  metrics: {{ address: "127.0.0.1:{it.ports[1]}" }}
principals:
  - {{ name: peers, key: {{ sha256: {digest} }}, roles: [issuer], projects: [peers] }}
  - {{ name: person, key: {{ sha256: {key()[1]} }}, roles: [approver], groups: [people], projects: [peers] }}
store: {{ embedded: {{ path: {it.folder}/data/toolgate.db }} }}
ledger: {{ directory: {it.folder}/data/ledger, level: {level} }}
projects: [project.yaml]
""")
        if self.store and self.store.exists():
            shutil.copytree(self.store, it.folder / "data", dirs_exist_ok=True)
        return [self.binary, "serve", "--config", str(path)]

    def environment(self):
        return {"NO_COLOR": "1", "TOOLGATE_LOG": "warn"}

    def count(self, setting):
        """Decisions, and outcomes of those that were allowed."""
        return lines_with('"kind":"decision"', (setting.folder / "data" / "ledger").rglob("*.jsonl"))
