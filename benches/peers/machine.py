"""Processes: started on their cores, measured from /proc, ended by their ids. And what this machine is."""

import os
import pathlib
import platform
import re
import resource
import signal
import socket
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))


def cores(workers):
    """For proxies, and for everything else. Where there are no more cores than workers, nothing is pinned."""
    if len(CORES) <= workers:
        return None, None
    return CORES[:workers], CORES[workers:]


def pinned(on, command):
    return command if on is None else ["taskset", "-c", ",".join(map(str, on)), *command]


def free_ports(count):
    """Ports that nobody listens at, below those that connections are given by themselves."""
    low = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found = []
    port = low - 1 - os.getpid() % 5000
    while len(found) < count:
        port -= 1
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found


class Process:
    """A process and all that it starts."""

    def __init__(self, command, folder, on=None, name="process", environment=None, pipes=False):
        self.log = folder / f"{name}.err"
        self.out = None if pipes else open(folder / f"{name}.out", "w")
        with open(self.log, "w") as err:
            self.child = subprocess.Popen(
                pinned(on, command), cwd=folder, env={**os.environ, **(environment or {})}, stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else self.out, stderr=err, text=pipes)
        self.pid = self.child.pid

    def family(self):
        """Its process ids, children included."""
        found, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    todo += [int(word) for word in task.read_text().split()]
                except OSError:
                    pass
        return found

    def cpu(self):
        """Seconds in user space and in the kernel."""
        user = kernel = 0
        for pid in self.family():
            try:
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            user += int(fields[11])
            kernel += int(fields[12])
        return user / TICKS, kernel / TICKS

    def memory(self):
        """KiB, what processes share counted once (PSS)."""
        total = 0
        for pid in self.family():
            try:
                text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])
        return total

    def wait_for(self, port, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.child.poll() is not None:
                raise RuntimeError(f"{self.child.args}: it ended: {self.log.read_text()[-2000:]}")
            try:
                socket.create_connection(("127.0.0.1", port), 0.5).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"{self.child.args}: nothing listens at {port}: {self.log.read_text()[-2000:]}")

    def stop(self, how=signal.SIGTERM, seconds=10):
        if self.child.poll() is None:
            # What it started first: they may outlive it.
            family = self.family()
            self.child.send_signal(how)
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                for pid in reversed(family):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                self.child.wait(seconds)
        for pipe in (self.child.stdin, self.child.stdout, self.out):
            if pipe:
                pipe.close()


def busy():
    """Seconds that all cores together were busy."""
    fields = [int(word) for word in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (fields[0] + fields[1] + fields[2] + fields[5] + fields[6] + fields[7]) / TICKS


def of_children():
    """Seconds of the clients that have ended, and of this program."""
    one, other = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    return one.ru_utime + one.ru_stime + other.ru_utime + other.ru_stime


def raise_descriptors():
    """As many descriptors as may be; says how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (65536, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, max(most, hard)))
            break
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def about():
    said = subprocess.run(["lscpu"], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}).stdout

    def field(name):
        found = re.search(rf"^{name}:\s+(.*)$", said, re.M)
        return found[1] if found else ""

    release = pathlib.Path("/etc/os-release").read_text()
    system = re.search(r'PRETTY_NAME="(.*)"', release)
    return {
        "cores": len(CORES), "cpu": field("Model name"), "virtual": field("Hypervisor vendor"), "kernel": platform.release().split("-")[0],
        "system": system[1] if system else "", "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
    }
