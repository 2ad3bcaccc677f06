"""A service manager in small: opens sockets, starts a program that inherits them as sd_listen_fds(3) says, and starts it
again whenever it ends well, with the same sockets.

activate.py COUNT PROGRAM ARGUMENT...     COUNT: how often it is started
"""

import ctypes
import os
import socket
import sys

NAMES = ("agents", "admin", "metrics")
FIRST = 3


def listening():
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", 0))
    taken.listen(1024)
    return taken


def start(sockets, program):
    child = os.fork()
    if child:
        return child
    # Killed with this process: PR_SET_PDEATHSIG, SIGKILL.
    ctypes.CDLL(None).prctl(1, 9)
    # High first: the numbers that are wanted may be those that are there.
    high = [os.dup(each.fileno()) for each in sockets]
    high = [os.dup2(number, 50 + at) for at, number in enumerate(high)]
    for at, number in enumerate(high):
        os.dup2(number, FIRST + at)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sockets)), LISTEN_FDNAMES=":".join(NAMES))
    os.execv(program[0], program)


def main():
    count, program = int(sys.argv[1]), sys.argv[2:]
    sockets = [listening() for _ in NAMES]
    for _ in range(count):
        child = start(sockets, program)
        print(f"started process {child}", flush=True)
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(os.waitstatus_to_exitcode(status))


main()
