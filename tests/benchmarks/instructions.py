"""Counts the instructions that a contender itself needs for a request: what no other program on the machine can change.

    python tests/benchmarks/instructions.py [NAME...] [--requests N]

The contender runs under valgrind, once with N requests and once with 2 N; the difference is what N requests cost,
without the start. The kernel's share is not in it. So two versions of a program can be compared at any time. For how
fast they are, ask bench.py.
"""

import argparse
import pathlib
import re
import signal
import subprocess
import tempfile

from bench import choose, directory_command
from contenders import TOOLS, Field, default_names, need_tools, switched_off
from support.harness import is_listening
from support.peers import free_port, wait_until
from support.programs import find
from workloads import AT_ONCE, make_site

KINDS = {"a connection per request": [], "keep-alive": ["-k"]}  # options of ab
PATIENCE = 120  # seconds until it listens, or answers: valgrind makes everything fifty times as slow


def count(words, port, requests, options):
    """Return the instructions of a program, from its start to its end, with `requests` requests in between."""
    valgrind = [find("valgrind"), "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", *words]
    with subprocess.Popen(valgrind, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: is_listening(port) or process.poll() is not None, "it listens", PATIENCE)
            url = f"http://127.0.0.1:{port}/small"
            ab = ["ab", "-q", "-s", str(PATIENCE), "-n", str(requests), "-c", str(AT_ONCE), *options, url]
            subprocess.run(ab, capture_output=True, check=True)
        finally:
            process.send_signal(signal.SIGTERM)
            complaint = process.communicate()[1]
    return int(re.search(r"I\s+refs:\s+([\d,]+)", complaint)[1].replace(",", ""))


def measure(field, name, requests, options):
    """Return the instructions that a contender needs for a request; `options` are ab's."""
    totals = []
    for times in (1, 2):
        port = free_port()
        words = field.words_for(name)(port, field.backend.port)
        totals.append(count(words, port, times * requests, options))
    return (totals[1] - totals[0]) / requests


def main():
    """Count, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="contenders (part4 nginx)")
    parser.add_argument("--against", type=pathlib.Path, metavar="DIR", help="the rsp.py in DIR as well, as old")
    parser.add_argument("--requests", type=int, default=2000, help="of each kind (2000)")
    parser.add_argument("--kind", choices=KINDS, help="one kind only")
    options = parser.parse_args()
    kinds = [options.kind] if options.kind else list(KINDS)
    need_tools([*TOOLS, "valgrind"])
    extra = {"old": directory_command(options.against)} if options.against else {}
    names = [*extra, *(options.names or ["part4", "nginx"])]
    choose(",".join(names), [*extra, *default_names()[1:], *switched_off()], "contender")
    print(f"instructions a request{'':20}{''.join(f'{kind:>26}' for kind in kinds)}")
    with tempfile.TemporaryDirectory(prefix="rsp-bench-", dir="/dev/shm") as directory:
        make_site(pathlib.Path(directory))
        with Field(directory, [], extra, 20_000) as field:
            for name in names:
                found = [measure(field, name, options.requests, KINDS[kind]) for kind in kinds]
                print(f"  {name:<40}{''.join(f'{figure:>26,.0f}' for figure in found)}", flush=True)


if __name__ == "__main__":
    main()
