#!/usr/bin/env python3
"""What the server's pings cost: processor time for each, with as many silent connections as wanted.

    python3 benches/clients/pings.py [--binary target/release/switchboard] [--connections 9000] [--seconds 20]

The server runs twice with idle WebSockets that answer every ping: with server.ping_interval = "1s", so that each
connection is pinged once a second, and with "1h", so that none is. The difference of its processor time, divided by the
pings that the clients counted, is the cost of one ping and its pong, system calls included. Nothing else happens on
the connections. Memory is the server's resident set once all are connected, and again at the end.
"""

import argparse
import os
import selectors
import time
from pathlib import Path

from common import arguments, connect, server

PING = b"\x89\x00"
# Masked, as clients must, with zeros.
PONG = b"\x8a\x80\x00\x00\x00\x00"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--connections", type=int, default=9000)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    with_pings = run(options, "1s")
    without = run(options, "1h")
    cost = (with_pings["cpu"] - without["cpu"]) / with_pings["pings"]
    print(f"{options.connections} connections: {with_pings['pings']} pings, {cost * 1e6:.1f} µs of processor time each")
    share = cost * 50_000 / 25
    print(f"50,000 silent connections, one ping in 25 s each: {share:.1%} of one core")
    print(f"resident memory: {with_pings['before']} KB before, {with_pings['after']} KB after the pings")


def run(options: argparse.Namespace, interval: str) -> dict:
    with server(options.binary, server_keys=f'ping_interval = "{interval}"') as (process, port):
        return measure(options, process.pid, port)


def measure(options: argparse.Namespace, pid: int, port: int) -> dict:
    selector = selectors.DefaultSelector()
    for _ in range(options.connections):
        client = connect(port)
        client.setblocking(False)
        selector.register(client, selectors.EVENT_READ)
    answer_pings(selector, 3)
    before, cpu = memory(pid), cpu_seconds(pid)
    pings = answer_pings(selector, options.seconds)
    result = {"cpu": cpu_seconds(pid) - cpu, "pings": pings, "before": before, "after": memory(pid)}
    for key in list(selector.get_map().values()):
        key.fileobj.close()
    return result


def answer_pings(selector: selectors.BaseSelector, seconds: float) -> int:
    pings, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for key, _ in selector.select(0.1):
            if key.fileobj.recv(4096).endswith(PING):
                key.fileobj.sendall(PONG)
                pings += 1
    return pings


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
