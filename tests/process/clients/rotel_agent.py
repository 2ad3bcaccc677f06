"""Becomes Rotel, a collector for OpenTelemetry, with these arguments. The package has it as a program of its own."""

import os
import sys

import rotel

program = os.path.join(os.path.dirname(rotel.__file__), "rotel-agent")
os.execv(program, [program, *sys.argv[1:]])
