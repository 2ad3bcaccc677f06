"""What is measured. Each case yields rows: plain dictionaries, one for each figure that was taken."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time

import machine
import peers
from machine import Process
from peers import HERE, OUT, Gate, Setting

LOAD = OUT / "cargo" / "release" / "peers-load"
PATH = "/v1/tools/search?q=hello"
TOKENS = 1000
BODY = 64 * 1024


class Unequal(Exception):
    """A peer does not do the work that is compared."""


class Scene:
    """A peer that runs before a backend."""

    def __init__(self, peer, setting, process, backend, on):
        self.peer, self.setting, self.process, self.backend, self.on = peer, setting, process, backend, on
        self.port = setting.port if process else setting.backend
        self.calls = 0
        """That were answered by the peer or the backend, of known tokens."""
        self.loads = 0
        """Connections of loads that were cut in the end, each perhaps with one call more."""

    def cpu(self):
        return self.process.cpu() if self.process else (0, 0)

    def client(self, *words, pipes=False):
        """`load`, beside the backend."""
        if pipes:
            return Process([str(LOAD), *map(str, words)], self.setting.folder, self.on, f"client{time.monotonic_ns()}", pipes=True)
        done = subprocess.run(machine.pinned(self.on, [str(LOAD), *map(str, words)]), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"load {words[0]} before {self.peer.name}: {done.stderr}")
        return json.loads(done.stdout)

    def rate(self, **options):
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        said = self.client("rate", "--address", f"127.0.0.1:{self.port}", "--tokens", self.setting.tokens, *words)
        self.calls += said["calls"]
        return said

    def wrk(self, connections, seconds, body=0, tokens=None):
        threads = 1 if self.on is not None else len(machine.CORES)
        scheme = "https" if self.setting.tls else "http"
        command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "-s", str(HERE / "wrk.lua"), f"{scheme}://127.0.0.1:{self.port}/",
                   "--", str(tokens or self.setting.tokens), str(body)]
        done = subprocess.run(machine.pinned(self.on, command), capture_output=True, text=True)
        found = re.search(r'^\{"calls".*$', done.stdout, re.M)
        if not found:
            raise RuntimeError(f"wrk before {self.peer.name}: {done.stdout}{done.stderr}")
        said = json.loads(found[0])
        self.calls += said["calls"]
        self.loads += connections
        return said

    def h2load(self, connections, seconds, *words, streams=1):
        token = self.setting.sessions()[0]
        scheme = "https" if self.setting.tls else "http"
        command = ["h2load", "-D", str(seconds), "-c", str(connections), "-m", str(streams), "-t1", "-H", f"authorization: Bearer {token}", *words,
                   f"{scheme}://127.0.0.1:{self.port}{PATH}"]
        said = subprocess.run(machine.pinned(self.on, command), capture_output=True, text=True).stdout
        codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said)
        rate = re.search(r"finished in ([\d.]+)(ms|s)", said)
        if not codes or not rate or not int(codes[1]):
            raise RuntimeError(f"h2load before {self.peer.name}: {said}")
        calls = int(codes[1])
        protocol = re.search(r"Application protocol: (\S+)", said)
        self.calls += calls
        self.loads += connections * streams
        return {"calls": calls, "seconds": seconds, "bad": sum(map(int, codes.groups()[1:])), "broken": 0,
                "protocol": protocol[1] if protocol else "h2c"}

    def measured(self, what, *arguments, **options):
        """The row of a load: what it did, and what the peer used meanwhile."""
        before, backend, all_of_it, clients, begun = self.cpu(), self.backend.cpu(), machine.busy(), machine.of_children(), time.monotonic()
        said = what(*arguments, **options)
        after, behind = self.cpu(), self.backend.cpu()
        user, kernel = after[0] - before[0], after[1] - before[1]
        ours = user + kernel + sum(behind) - sum(backend) + machine.of_children() - clients
        others = (machine.busy() - all_of_it - ours) / (time.monotonic() - begun)
        row = {"calls": said["calls"], "bad": said["bad"], "broken": said.get("broken", 0)}
        for name in ("p50", "p90", "p99", "protocol"):
            if name in said:
                row[name] = said[name]
        if "seconds" in said:
            row["rps"] = round(said["calls"] / said["seconds"])
        row |= {"cpu_us": round((user + kernel) / said["calls"] * 1e6, 3), "user_us": round(user / said["calls"] * 1e6, 3),
                "others": round(max(0.0, others), 2), "memory_kib": self.process.memory() if self.process else 0}
        if row["bad"] or row["broken"]:
            raise Unequal(f"{self.peer.name}: {row['bad']} answers were not 2xx, {row['broken']} connections broke")
        return row

    def status(self, method="GET", path=PATH, token=None, connection=None):
        one = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        one.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = one.getresponse()
        answer.read()
        if not connection:
            one.close()
        return answer.status


class Bench:
    """What all cases share: options, tokens, certificates, the folder that everything is started in."""

    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        self.tokens = folder / "tokens"
        self.stores = {}
        self.number = 0
        gates = [peer for peer in options.peers if isinstance(peer, Gate)]
        if gates:
            store, self.tokens, took = self.minted(gates[0], TOKENS)
            for gate in gates:
                gate.store = store
        else:
            self.tokens.write_text("".join(f"tgs_{secrets.token_urlsafe(32)}{secrets.token_urlsafe(4)}\n" for _ in range(TOKENS)))

    def certificate(self):
        made = self.folder / "both.pem"
        if not made.exists():
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "tls.key", "-out", "tls.pem"],
                           cwd=self.folder, check=True, capture_output=True)
            made.write_text((self.folder / "tls.pem").read_text() + (self.folder / "tls.key").read_text())
        return self.folder / "tls.pem", self.folder / "tls.key", made

    @contextlib.contextmanager
    def running(self, peer, workers=1, around=None, **settings):
        """The peer before a backend of its own; all of it ends with the block."""
        self.number += 1
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.number}-{peer.name if peer else 'direct'}-", dir=self.folder))
        ports = machine.free_ports(4)
        proxies, others = machine.cores(workers)
        settings.setdefault("tokens", self.tokens)
        setting = Setting(folder, ports[0], ports[1], ports[2:], workers, plain=bool(peer and peer.plain), **settings)
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            backend = Process([str(LOAD), "backend", "--listen", f"127.0.0.1:{setting.backend}"], folder, others, "backend")
            stack.callback(backend.stop)
            backend.wait_for(setting.backend)
            process = None
            if peer:
                command = peer.command(setting, single=bool(around))
                name = pathlib.Path(peer.records).stem
                process = Process([*(around(folder) if around else []), *command], folder, None if around else proxies, name, peer.environment())
                stack.callback(process.stop, peer.stop_signal)
                process.wait_for(setting.port, 120)
                time.sleep(0.2)
            yield Scene(peer or Direct, setting, process, backend, others)

    def minted(self, gate, count):
        """A store with so many sessions, and their tokens."""
        if count in self.stores:
            return self.stores[count]
        folder = self.folder / f"store-{count}"
        tokens = self.folder / f"tokens-{count}"
        self.tokens.touch()
        fresh = Gate(gate.binary)
        fresh.store = None
        with self.running(fresh) as scene:
            session = json.dumps({"project": "peers", "agent": "bot", "attributes": {"customer_id": "7"}})
            said = scene.client("mint", "--address", f"127.0.0.1:{scene.setting.ports[0]}", "--key", fresh.key, "--count", count, "--session",
                                session, "--out", tokens)
            scene.process.stop()
            shutil.move(scene.setting.folder / "data", folder)
        self.stores[count] = (folder, tokens, said["seconds"])
        return self.stores[count]

    def equal(self, scene):
        """Ends the peer, and holds its records against the calls that were made."""
        if scene.process is None or scene.peer.plain:
            return
        # Buffers are written out once a second.
        time.sleep(1.1)
        scene.process.stop(scene.peer.stop_signal)
        records = scene.peer.count(scene.setting)
        if not scene.calls <= records <= scene.calls + scene.loads:
            raise Unequal(f"{scene.peer.name}: {records} records of {scene.calls} calls (and at most {scene.loads} that were cut)")


class Direct:
    name, plain, variant = "direct", True, ""


def rotated(items, number):
    """Nobody is always first."""
    number %= max(1, len(items))
    return items[number:] + items[:number]


def policed(bench):
    return [peer for peer in bench.options.peers if peer and not peer.plain]


def check(bench, number):
    """That each peer does the work: known and unknown tokens, methods and paths, a limit of each token, one record a call."""
    if number:
        return
    for peer in policed(bench):
        with bench.running(peer, limit=5) as scene:
            one, other, third = scene.setting.sessions()[:3]
            got = {
                "allowed": scene.status(token=one), "post": scene.status("POST", "/v1/tools/search", token=one), "no token": scene.status(),
                "unknown token": scene.status(token=one[:-12] + "AAAAAAAAAAAA"), "other path": scene.status(path="/admin", token=one),
                "other method": scene.status("DELETE", "/v1/tools/search", token=one),
            }
            wanted = {"allowed": 200, "post": 200, "no token": 401, "unknown token": 401, "other path": 403, "other method": 403}
            connection = http.client.HTTPConnection("127.0.0.1", scene.port, timeout=10)
            hasty = [scene.status(token=other, connection=connection) for _ in range(60)]
            got["a token within its limit, while another is over it"] = scene.status(token=third)
            wanted["a token within its limit, while another is over it"] = 200
            connection.close()
            if got != wanted or set(hasty) != {200, 429} or not 4 <= hasty.count(200) <= 20:
                raise Unequal(f"{peer.name}: {got}, and of 60 calls at once {hasty.count(200)} passed, {hasty.count(429)} were limited")
            scene.calls = 4 + 60 + 1
            bench.equal(scene)
        yield {"case": "check", "peer": peer.name, "passed": hasty.count(200), "limited": hasty.count(429), "records_each": peer.each}


def loaded(bench, case, peer, workers=1, variant="", body=0, connections=None, warm=1, **settings):
    """Rows of one start: the load with each number of connections."""
    with bench.running(peer, workers, **settings) as scene:
        scene.wrk(32, warm, body)
        rows = []
        for many in connections or bench.options.connections:
            row = scene.measured(scene.wrk, many, bench.options.seconds, body)
            rows.append({"case": case, "peer": scene.peer.name, "variant": variant, "workers": workers, "connections": many, **row})
        bench.equal(scene)
    return rows


def calls(bench, number):
    """GET: processor time of a call, and throughput."""
    for workers in bench.options.workers:
        for peer in rotated(bench.options.peers, number):
            yield from loaded(bench, "calls", peer, workers, "plain" if peer is None or peer.plain else "policy")


def post(bench, number):
    """POST of 64 KiB."""
    for peer in rotated([peer for peer in bench.options.peers if peer is None or not peer.plain], number):
        yield from loaded(bench, "post", peer, body=BODY, connections=[32])


def features(bench, number):
    """The gate with less and with more of one thing each."""
    for gate in bench.options.gates[:1]:
        names = [name for name in peers.VARIANTS if name not in ("body", "post")]
        for name in rotated(names, number):
            one = Gate(gate.binary, name)
            one.store = gate.store
            yield from loaded(bench, "features", one, variant=name or "gate", connections=[32])
        for name in rotated(["body", "post"], number):
            one = Gate(gate.binary, name)
            one.store = gate.store
            yield from loaded(bench, "features", one, variant=name, body=200, connections=[32])


def latency(bench, number):
    """What a peer adds to a call at a fixed rate."""
    for peer in rotated([peer for peer in bench.options.peers if peer is None or not peer.plain], number):
        with bench.running(peer) as scene:
            scene.rate(rate=2000, seconds=0.5)
            for rate in bench.options.rates:
                row = scene.measured(scene.rate, rate=rate, seconds=bench.options.seconds)
                yield {"case": "latency", "peer": scene.peer.name, "rate": rate, **row}
            bench.equal(scene)


def protocols(bench, number):
    """HTTP/2 without TLS, and TLS with either version."""
    ways = {"HTTP/2": ({"http2": True}, [], 4), "HTTP/2 over TLS": ({"tls": True}, [], 4), "HTTP/1.1 over TLS": ({"tls": True}, ["--h1"], 1)}
    for way, (settings, words, streams) in ways.items():
        for peer in rotated(policed(bench), number):
            settings = {name: bench.certificate() if name == "tls" else value for name, value in settings.items()}
            with bench.running(peer, **settings) as scene:
                scene.h2load(32, 1, *words, streams=streams)
                row = scene.measured(scene.h2load, 32, bench.options.seconds, *words, streams=streams)
                yield {"case": "protocols", "peer": peer.name, "variant": way, "workers": 1, "connections": 32, "streams": streams, **row}
                bench.equal(scene)


def growth(bench, number):
    """The gate with more routes, and with more live sessions: all sizes run at once, and are called in turn."""
    if number:
        return
    for gate in bench.options.gates[:1]:
        yield from grown(bench, "routes", bench.options.routes, lambda size: (Gate(gate.binary, routes=size), TOKENS))
        yield from grown(bench, "sessions", bench.options.sessions, lambda size: (Gate(gate.binary), size))


def grown(bench, what, sizes, made):
    with contextlib.ExitStack() as stack:
        scenes = {}
        for size in sizes:
            one, sessions = made(size)
            one.store, tokens, took = bench.minted(one, sessions)
            # A thousand of them, from all over the table.
            lines = tokens.read_text().splitlines(keepends=True)
            active = bench.folder / f"active-{sessions}"
            active.write_text("".join(lines[:: len(lines) // TOKENS][:TOKENS]))
            scene = stack.enter_context(bench.running(one, tokens=active))
            scene.wrk(32, 1)
            scenes[size] = (scene, scene.process.memory(), took)
        for round_ in range(bench.options.rounds):
            for size in rotated(list(scenes), round_):
                scene, memory, took = scenes[size]
                row = scene.measured(scene.wrk, 32, bench.options.seconds)
                yield {"case": "growth", "peer": "gate", "variant": what, "size": size, "round": round_, "minted_seconds": took, "connections": 32, **row,
                       "memory_kib": memory}


def idle(bench, number):
    """Memory of connections that have made one call and stay."""
    if number:
        return
    for peer in policed(bench):
        with bench.running(peer) as scene:
            scene.wrk(32, 1)
            # What calls left behind goes first.
            time.sleep(6)
            before = scene.process.memory()
            client = scene.client("idle", "--address", f"127.0.0.1:{scene.port}", "--tokens", scene.setting.tokens, "--count", bench.options.idle, pipes=True)
            said = json.loads(client.child.stdout.readline())
            time.sleep(6)
            after = scene.process.memory()
            client.stop()
            scene.calls += said["open"]
            yield {"case": "idle", "peer": peer.name, "connections": said["open"], "bad": said["bad"], "each_bytes": round((after - before) * 1024 / said["open"]),
                   "memory_kib": after}


def streams(bench, number):
    """Events to many streams: processor time of an event, and how late it comes."""
    for peer in rotated([peer for peer in bench.options.peers if peer is None or not peer.plain], number):
        with bench.running(peer) as scene:
            client = scene.client("streams", "--address", f"127.0.0.1:{scene.port}", "--tokens", scene.setting.tokens, "--path", "/v1/tools/events", "--count",
                                  bench.options.streams, "--events", 20 * bench.options.seconds, "--rate", 20, "--publish", f"127.0.0.1:{scene.setting.backend}", pipes=True)
            client.child.stdout.readline()
            before = scene.cpu()
            client.child.stdin.write("g")
            client.child.stdin.flush()
            said = json.loads(client.child.stdout.readline())
            used = sum(scene.cpu()) - sum(before)
            memory = scene.process.memory() if scene.process else 0
            client.stop()
            yield {"case": "streams", "peer": scene.peer.name, "streams": said["streams"], "events": said["events"], "cpu_us": round(used / said["events"] * 1e6, 3),
                   "p50": said["p50"], "p99": said["p99"], "memory_kib": memory}


def holds(bench, number):
    """Calls that wait for a person, and what the others pay for them."""
    for gate in bench.options.gates[:1]:
        with bench.running(gate) as scene:
            scene.wrk(32, 1)
            time.sleep(6)
            before = scene.process.memory()
            free = scene.measured(scene.wrk, 32, bench.options.seconds)
            client = scene.client("idle", "--address", f"127.0.0.1:{scene.port}", "--tokens", scene.setting.tokens, "--count", bench.options.holds, "--method",
                                  "POST", "--path", "/v1/tools/ask/{n}", "--answered", "false", pipes=True)
            client.child.stdout.readline()
            held = 0
            end = time.monotonic() + 30
            while held < bench.options.holds and time.monotonic() < end:
                time.sleep(0.5)
                held = metric(scene.setting.ports[1], "toolgate_held_requests")
            time.sleep(6)
            after = scene.process.memory()
            row = scene.measured(scene.wrk, 32, bench.options.seconds)
            client.stop()
            yield {"case": "holds", "peer": "gate", "held": held, "each_bytes": round((after - before) * 1024 / max(1, held)), "cpu_us_without": free["cpu_us"],
                   "connections": 32, **row}


def metric(port, name):
    one = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    one.request("GET", "/metrics")
    text = one.getresponse().read().decode()
    one.close()
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line)))


def counts(bench, number):
    """Instructions in user space (callgrind) and system calls (strace) of a call: what load on the machine doesn't change."""
    if number:
        return
    for peer in [peer for peer in bench.options.peers if peer]:
        row = {"case": "counts", "peer": peer.name, "variant": "plain" if peer.plain else "policy", "connections": 32}
        try:
            row["instructions"] = instructions(bench, peer)
        except (RuntimeError, subprocess.SubprocessError, OSError) as fault:
            row["fault"] = str(fault)[-300:]
        row["system_calls"] = system_calls(bench, peer)
        yield row


def instructions(bench, peer, few=500, many=3500):
    """The difference of two runs, so that start and stop are not counted."""

    def around(folder):
        return ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/counted"]

    totals = []
    for calls in (few, many):
        with bench.running(peer, around=around) as scene:
            scene.rate(count=calls)
            scene.process.stop(peer.stop_signal, 60)
            counted = scene.setting.folder / "counted"
            found = re.search(r"^(?:totals|summary): (\d+)", counted.read_text(errors="replace") if counted.exists() else "", re.M)
            if not found:
                raise RuntimeError(f"callgrind counted nothing: {scene.process.log.read_text()[-300:]}")
            totals.append(int(found[1]))
    return round((totals[1] - totals[0]) / (many - few))


def system_calls(bench, peer, calls=20000):
    with bench.running(peer) as scene:
        scene.rate(count=2000)
        out = scene.setting.folder / "traced"
        words = [word for pid in scene.process.family() for word in ("-p", str(pid))]
        tracer = Process(["strace", "-c", "-f", "-q", "-o", str(out), *words], scene.setting.folder, name="strace")
        time.sleep(1)
        scene.rate(count=calls)
        tracer.stop(signal.SIGINT)
        found = {}
        for line in out.read_text().splitlines():
            fields = line.split()
            if len(fields) >= 5 and fields[0][0].isdigit() and fields[-1] != "total":
                each = int(fields[3]) / calls
                if each >= 0.005:
                    found[fields[-1]] = round(each, 3)
        return found


CASES = {case.__name__: case for case in (check, calls, post, latency, features, counts, growth, protocols, streams, idle, holds)}
