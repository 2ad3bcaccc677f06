"""Runs a program on a terminal of its own and plays a person at it.

usage: terminal.py STEPS PROGRAM [ARGUMENT...]

STEPS is a JSON list of [TEXT, KEYS]: once TEXT has appeared on the screen (since the last step), KEYS are typed. At the
end it prints one JSON object: the exit code, everything that was written, and whether the terminal is as it was before.
"""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

PATIENCE = 30.0
ORDERS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def main():
    steps = json.loads(sys.argv[1])
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    before = termios.tcgetattr(slave)
    program = subprocess.Popen(
        sys.argv[2:], stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    written, seen, end = "", 0, time.monotonic() + PATIENCE
    while time.monotonic() < end:
        ready, _, _ = select.select([master], [], [], 0.05)
        if ready:
            written += os.read(master, 65536).decode("utf-8", "replace")
        elif program.poll() is not None:
            break
        # Moving to another line parts texts.
        screen = ORDERS.sub("\n", written[seen:])
        if steps and re.search(steps[0][0], screen):
            seen = len(written)
            os.write(master, steps.pop(0)[1].encode())
    else:
        program.kill()
    print(
        json.dumps(
            {
                "code": program.wait(),
                "written": written,
                "restored": termios.tcgetattr(slave) == before,
                "left": steps,
            }
        )
    )


main()
