#!/usr/bin/env python3
"""Honest clients beside all attackers of `floods.py` at once: what each honest client lost, which must be nothing.

    python3 benches/clients/soak.py [--binary target/release/switchboard] [--minutes 10] [--sockets 100]

One server, one app. Attackers know the app's key, as everybody does who has seen the page: sockets of each kind of
flood, which come back when the server closes them, readers that never read, and requests with wrong signatures. Beside
them a backend publishes numbers by HTTP, users send each other client events, come and go on a presence channel, and
send messages through the router. A client lost something if a number is missing, twice or out of order, if a request
was refused or not answered, or if its connection ended. The exit status is 1 if any client lost anything.
"""

import hashlib
import hmac
import http.client
import json
import multiprocessing
import socket
import sys
import threading
import time

from common import arguments, connect, server, subscribe, text
from floods import APP, KINDS, flood

READERS = 5
#: Seconds that what was sent last has to arrive.
PATIENCE = 60
# The correspondent writes twice a second, more than a person may by default.
ROUTING = "enabled = true\nsend.user_rate = 0"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--sockets", type=int, default=100)
    parser.add_argument("--pause", type=float, default=0.1)
    options = parser.parse_args()
    # Each kind has its share.
    options.sockets = max(1, options.sockets // len(KINDS))
    with server(options.binary, app_keys=APP, routing=ROUTING) as (_, port):
        honest = clients(port)
        attackers = [multiprocessing.Process(target=flood, args=(options, kind, port), daemon=True) for kind in KINDS]
        attackers += [multiprocessing.Process(target=attack, args=(port,), daemon=True) for attack in (deaf, forge)]
        for attacker in attackers:
            attacker.start()
        try:
            run(honest, options.minutes * 60)
        finally:
            ended = [attacker for attacker in attackers if not attacker.is_alive()]
            for attacker in attackers:
                attacker.kill()
                attacker.join()
    print(f"{'honest client':34} {'expected':>9} {'came':>9} {'slowest':>9}  lost")
    for client in honest:
        print(client.row())
    if ended:
        sys.exit("an attacker ended early, so this was no soak")
    sys.exit(any(client.losses for client in honest))


def clients(port: int) -> list:
    """The honest clients, connected and subscribed, so that nothing is missed from the start on."""
    news = [Reader(port, f"reader {number} of public news", "news") for number in range(READERS)]
    guarded = Reader(port, "reader of a private channel", "private-orders")
    friend = Reader(port, "receiver of client events", "private-chat")
    room = Room(port)
    return [
        *news,
        guarded,
        friend,
        room,
        Publisher(port, "backend that publishes", ["news", "private-orders"], [*news, guarded]),
        Talker(port, friend),
        Visitor(port, room),
        Correspondent(port),
    ]


def run(honest: list, seconds: float) -> None:
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=client.live, args=(end,), daemon=True) for client in honest]
    for thread in threads:
        thread.start()
    while (left := end - time.monotonic()) > 0:
        print(f"\r{left:5.0f} s left, {sum(len(client.losses) for client in honest)} losses ", end="", file=sys.stderr)
        time.sleep(min(1, left))
    print(file=sys.stderr)
    deadline = time.monotonic() + PATIENCE
    for thread, client in zip(threads, honest):
        thread.join(max(0.1, deadline - time.monotonic()))
        if thread.is_alive():
            client.lose("it waits for something")
    for client in honest:
        client.finish()


class Client:
    """One honest client: what it expected, what came, and what it lost."""

    def __init__(self, name: str):
        self.name, self.expected, self.came, self.slowest, self.losses = name, 0, 0, 0.0, []

    def lose(self, what: str) -> None:
        self.losses.append(what)

    def took(self, since: float) -> None:
        self.slowest = max(self.slowest, time.monotonic() - since)

    def finish(self) -> None:
        if self.came < self.expected:
            self.lose(f"{self.expected - self.came} did not come")

    def row(self) -> str:
        lost = "nothing" if not self.losses else f"{len(self.losses)}: " + "; ".join(self.losses[:3])
        return f"{self.name:34} {self.expected:9} {self.came:9} {self.slowest * 1e3:6.0f} ms  {lost}"


class Socket:
    """A WebSocket that reads whole frames and answers the server's pings."""

    def __init__(self, port: int):
        self.socket, self.unread = connect(port), b""
        self.socket.settimeout(PATIENCE)
        while b"\r\n\r\n" not in self.unread:
            self.more()
        self.unread = self.unread.split(b"\r\n\r\n", 1)[1]
        self.id = json.loads(self.event()["data"])["socket_id"]

    def more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        self.unread += data

    def frame(self) -> tuple[int, bytes]:
        while True:
            head, size = 2, self.unread[1] if len(self.unread) > 1 else None
            if size == 126:
                head, size = 4, int.from_bytes(self.unread[2:4], "big") if len(self.unread) >= 4 else None
            elif size == 127:
                head, size = 10, int.from_bytes(self.unread[2:10], "big") if len(self.unread) >= 10 else None
            if size is not None and len(self.unread) >= head + size:
                opcode, payload = self.unread[0] & 15, self.unread[head : head + size]
                self.unread = self.unread[head + size :]
                return opcode, payload
            self.more()

    def event(self) -> dict:
        """The next event. Raises ConnectionError when the server ends the connection."""
        while True:
            opcode, payload = self.frame()
            if opcode == 9:
                self.socket.sendall(bytes([0x8A, 0x80 | len(payload)]) + bytes(4) + payload)
            elif opcode == 8:
                raise ConnectionError(f"closed with {int.from_bytes(payload[:2], 'big')} {payload[2:].decode()}")
            elif opcode == 1:
                return json.loads(payload)

    def subscribe(self, channel: str, **member: str) -> None:
        """Subscribes, signed if need be, and waits for the answer."""
        more = {}
        if not channel.startswith("news"):
            data = [json.dumps(member)] if member else []
            more["auth"] = "key:" + signature(":".join([self.id, channel, *data]))
            more.update({"channel_data": data[0]} if data else {})
        self.socket.sendall(subscribe(channel, **more))
        while (event := self.event())["event"] != "pusher_internal:subscription_succeeded":
            if "error" in event["event"]:
                raise ConnectionError(f"refused: {event}")


def signature(what: str) -> str:
    return hmac.new(b"secret", what.encode(), hashlib.sha256).hexdigest()


class Api:
    """Signed requests on a connection that is kept."""

    def __init__(self, port: int):
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def call(self, method: str, path: str, body: dict | None = None, **query: str) -> dict:
        """The answer. Raises ConnectionError for any other than 200."""
        payload = b"" if body is None else json.dumps(body).encode()
        pairs = {"auth_key": "key", "auth_timestamp": str(int(time.time())), "auth_version": "1.0", **query}
        if payload:
            pairs["body_md5"] = hashlib.md5(payload).hexdigest()
        path = f"/apps/1001/{path}"
        line = "&".join(f"{name}={value}" for name, value in sorted(pairs.items()))
        signed = signature("\n".join([method, path, line]))
        target = f"{path}?{line}&auth_signature={signed}"
        self.http.request(method, target, payload or None, {"Content-Type": "application/json"})
        answer = self.http.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise ConnectionError(f"HTTP {answer.status} {content[:200].decode()}")
        return json.loads(content)


class Reader(Client):
    """Is to get each number once and in order."""

    def __init__(self, port: int, name: str, channel: str):
        super().__init__(name)
        self.socket, self.channel, self.total = Socket(port), channel, None
        self.socket.subscribe(channel)

    def live(self, _end: float) -> None:
        try:
            while self.total is None or self.came < self.total:
                event = self.socket.event()
                if event.get("channel") == self.channel and not event["event"].startswith("pusher"):
                    self.take(json.loads(event["data"]))
        except (OSError, http.client.HTTPException) as error:
            self.lose(str(error) or type(error).__name__)

    def take(self, data: dict) -> None:
        if data["number"] < 0:
            self.total = self.came
            return
        if data["number"] != self.came:
            self.lose(f"number {data['number']} came in place of {self.came}")
        self.came += 1
        self.took(data["at"])


class Sender(Client):
    """Does something again and again; each time is to work."""

    every = 0.1

    def live(self, end: float) -> None:
        while time.monotonic() < end:
            since = time.monotonic()
            self.expected += 1
            try:
                self.act(self.came, since)
                self.came += 1
                self.took(since)
            except (OSError, http.client.HTTPException) as error:
                self.lose(str(error) or type(error).__name__)
                return
            time.sleep(max(0, self.every - (time.monotonic() - since)))
        self.last()

    def last(self) -> None:
        """Says goodbye."""


class Publisher(Sender):
    def __init__(self, port: int, name: str, channels: list, readers: list):
        super().__init__(name)
        self.api, self.channels, self.readers = Api(port), channels, readers

    def act(self, number: int, at: float) -> None:
        data = json.dumps({"number": number, "at": at})
        self.api.call("POST", "events", {"name": "tick", "channels": self.channels, "data": data})
        for reader in self.readers:
            reader.expected = number + 1

    def last(self) -> None:
        self.act(-1, 0)
        for reader in self.readers:
            reader.expected = self.came


class Talker(Sender):
    every = 0.2

    def __init__(self, port: int, friend: Reader):
        super().__init__("sender of client events")
        self.socket, self.friend = Socket(port), friend
        self.socket.subscribe(friend.channel)

    def act(self, number: int, at: float) -> None:
        data = json.dumps({"number": number, "at": at})
        event = {"event": "client-said", "channel": self.friend.channel, "data": data}
        self.socket.socket.sendall(text(event) + text({"event": "pusher:ping"}))
        while (event := self.socket.event())["event"] != "pusher:pong":
            if event["event"] == "pusher:error":
                raise ConnectionError(str(event["data"]))
        self.friend.expected = number + 1

    def last(self) -> None:
        self.act(-1, 0)
        self.friend.expected = self.came


class Room(Client):
    """A member of a presence channel, who is to see each visitor come and go."""

    def __init__(self, port: int):
        super().__init__("member of a presence channel")
        self.socket, self.seen, self.ended = Socket(port), set(), threading.Event()
        self.socket.subscribe("presence-room", user_id="host")
        self.socket.socket.settimeout(1)

    def live(self, _end: float) -> None:
        while not (self.ended.is_set() and self.came >= self.expected):
            try:
                event = self.socket.event()
            except TimeoutError:
                continue
            except OSError as error:
                self.lose(str(error) or type(error).__name__)
                return
            kind = event["event"].removeprefix("pusher_internal:member_")
            if kind in ("added", "removed"):
                self.take(kind, json.loads(event["data"])["user_id"])

    def take(self, kind: str, user: str) -> None:
        if (kind, user) in self.seen or (kind == "removed" and ("added", user) not in self.seen):
            self.lose(f"{user} {kind} out of order")
        self.seen.add((kind, user))
        self.came += 1


class Visitor(Sender):
    every = 2

    def __init__(self, port: int, room: Room):
        super().__init__("visitors of that channel")
        self.port, self.room = port, room

    def act(self, number: int, _at: float) -> None:
        guest = Socket(self.port)
        self.room.expected += 2
        guest.subscribe("presence-room", user_id=f"visitor-{number}")
        guest.socket.close()

    def last(self) -> None:
        self.room.ended.set()


class Correspondent(Sender):
    """Sends messages from one user to another through the router; what was answered with 200 is to be there."""

    every = 0.5

    def __init__(self, port: int):
        super().__init__("correspondent of the router")
        self.api, self.conversation = Api(port), None
        numbers = [{"number": f"+1312555010{user}", "user_id": str(user)} for user in (1, 2)]
        self.api.call("POST", "messaging/phone_numbers", {"phone_numbers": numbers})

    def act(self, number: int, _at: float) -> None:
        message = {"user_id": "1", "to": "+13125550102", "text": f"number {number}"}
        self.conversation = self.api.call("POST", "messaging/messages", message)["conversation"]["id"]

    def last(self) -> None:
        texts, query = set(), {"user_id": "1", "limit": "100"}
        while True:
            page = self.api.call("GET", f"messaging/conversations/{self.conversation}/messages", **query)
            texts.update(message["text"] for message in page["messages"])
            if page["next"] is None:
                break
            query["before"] = str(page["next"])
        missing = self.came - len(texts & {f"number {number}" for number in range(self.came)})
        if missing:
            self.lose(f"{missing} stored messages are gone")


def deaf(port: int) -> None:
    """Readers that never read."""
    clients = [connect(port) for _ in range(20)]
    for client in clients:
        client.sendall(subscribe("news"))
    while True:
        time.sleep(60)


def forge(port: int) -> None:
    """Requests with wrong signatures, one connection after the other."""
    head = b"POST /apps/1001/events?auth_key=key&auth_timestamp=1&auth_version=1.0&body_md5=0&auth_signature=0 HTTP/1.1\r\n"
    request = head + b"Host: localhost\r\nContent-Length: 2\r\n\r\n{}"
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port)) as client:
                for _ in range(100):
                    client.sendall(request)
                    client.recv(65536)
        except OSError:
            time.sleep(0.1)


if __name__ == "__main__":
    main()
