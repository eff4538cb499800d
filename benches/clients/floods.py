#!/usr/bin/env python3
"""What a flood does to bystanders: the time of their pings while 100 sockets send as much as they can.

    python3 benches/clients/floods.py [--binary target/release/switchboard] [--sockets 100] [--seconds 20] [KIND ...]

For each kind of flood two servers run. First the flood goes to the server of the bystanders, then, as the control, the
same flood goes to the other server on the same machine. The ratio of the 95th percentiles is what the flood costs beyond
the processor time that it takes. A flooding socket that the server closes comes back after --pause seconds.
"""

import argparse
import multiprocessing
import selectors
import time

from common import PING, arguments, connect, server, subscribe, text

BYSTANDERS = 10
EVERY = 0.05
APP = 'client_events = "members"\nsubscription_count = true'

KINDS = {
    "churn": subscribe("news") + text({"event": "pusher:unsubscribe", "data": {"channel": "news"}}),
    "one-channel": subscribe("news"),
    "wrong-signatures": subscribe("private-news", auth="key:" + "0" * 64),
    "sign-ins": text({"event": "pusher:signin", "data": {"auth": "key:" + "0" * 64, "user_data": '{"id":"1"}'}}),
    "fragments": b"\x00\x81" + bytes(4) + b"x",
    "pings": PING,
    "client-events": text({"event": "client-x", "channel": "private-news", "data": "x"}),
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--sockets", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--pause", type=float, default=0)
    parser.add_argument("kinds", nargs="*", metavar="KIND", default=list(KINDS))
    options = parser.parse_args()
    print(f"{'flood':18} {'p95, flooded':>14} {'p95, control':>14} {'ratio':>7} {'lost':>5}")
    for kind in options.kinds:
        with server(options.binary, app_keys=APP) as (_, own), server(options.binary, app_keys=APP) as (_, other):
            flooded, lost = pings_during(options, kind, own, own)
            control, _ = pings_during(options, kind, own, other)
        print(f"{kind:18} {flooded * 1e3:11.1f} ms {control * 1e3:11.1f} ms {flooded / control:7.2f} {lost:5}", flush=True)


def pings_during(options: argparse.Namespace, kind: str, port: int, flooded: int) -> tuple[float, int]:
    """The 95th percentile of the bystanders' pings in seconds, and how many bystanders lost their connection."""
    clients = [connect(port) for _ in range(BYSTANDERS)]
    time.sleep(0.5)
    for client in clients:
        client.recv(65536)
        client.sendall(subscribe("news"))
    flood_process = multiprocessing.Process(target=flood, args=(options, kind, flooded), daemon=True)
    flood_process.start()
    time.sleep(0.5)
    try:
        return ping(clients, options.seconds)
    finally:
        flood_process.kill()
        flood_process.join()
        for client in clients:
            client.close()


def ping(clients: list, seconds: float) -> tuple[float, int]:
    selector = selectors.DefaultSelector()
    for client in clients:
        client.setblocking(False)
        selector.register(client, selectors.EVENT_READ)
    waiting: dict = {}
    due = {client: time.perf_counter() for client in clients}
    times, end = [], time.perf_counter() + seconds
    while (now := time.perf_counter()) < end and due:
        for client, at in due.items():
            if client not in waiting and at <= now:
                waiting[client] = now
                client.send(PING)
        for key, _ in selector.select(0.002):
            client = key.fileobj
            try:
                data = client.recv(1 << 20)
            except ConnectionError:
                data = b""
            if not data:
                selector.unregister(client)
                due.pop(client, None)
                waiting.pop(client, None)
            elif b"pusher:pong" in data and client in waiting:
                now = time.perf_counter()
                times.append(now - waiting.pop(client))
                due[client] = now + EVERY
    # A ping without an answer took until the end at least.
    times += [end - since for since in waiting.values()]
    times.sort()
    return times[int(len(times) * 0.95)] if times else seconds, len(clients) - len(due)


def flood(options: argparse.Namespace, kind: str, port: int) -> None:
    selector = selectors.DefaultSelector()
    frames = KINDS[kind] * (65536 // len(KINDS[kind]))
    start = b"\x01\x81" + bytes(4) + b"x" if kind == "fragments" else b""
    back = [0.0] * options.sockets
    while True:
        now = time.perf_counter()
        for _ in [at for at in back if at <= now]:
            try:
                client = connect(port)
            except OSError:
                break
            back.remove(min(back))
            client.sendall(start)
            client.setblocking(False)
            # What the socket did not take of the frames so far is sent first.
            selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE, bytearray())
        for key, events in selector.select(0.01):
            try:
                if events & selectors.EVENT_READ and not key.fileobj.recv(1 << 20):
                    raise ConnectionError
                if events & selectors.EVENT_WRITE:
                    if not key.data:
                        key.data.extend(frames)
                    del key.data[: key.fileobj.send(key.data)]
            except BlockingIOError:
                pass
            except OSError:
                selector.unregister(key.fileobj)
                key.fileobj.close()
                back.append(time.perf_counter() + options.pause)


if __name__ == "__main__":
    main()
