"""What the programs of this folder share: a server of their own, handshakes, and frames as clients write them."""

import argparse
import json
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

HANDSHAKE = (
    b"GET /app/key?protocol=7 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def arguments(doc: str) -> argparse.ArgumentParser:
    """A parser with the option that all programs have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("--binary", type=Path, default=root / "target/release/switchboard")
    return parser


@contextmanager
def server(binary: Path, server_keys: str = "", app_keys: str = "", routing: str = "enabled = false"):
    """A server with app 1001 (`key`, `secret`), one thread for connections, and these lines in its tables; yields its
    process and its public port."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "switchboard.toml")
        file.write_text(
            f'[server]\nbind = "127.0.0.1:0"\nshards = 1\ndata_dir = "{folder}/data"\n{server_keys}\n'
            f'[admin]\nbind = "127.0.0.1:0"\n[log]\nlevel = "error"\n[routing]\n{routing}\n'
            f'[[apps]]\nid = "1001"\nkey = "key"\nsecrets = ["secret"]\n{app_keys}\n'
        )
        command = [binary.resolve(), "serve", "--json", "--config", file]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder)
        try:
            yield process, int(json.loads(process.stdout.readline())["public"].rsplit(":", 1)[1])
        finally:
            process.kill()
            process.wait()


def connect(port: int) -> socket.socket:
    """A connection that has asked for its handshake and not read the answer."""
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(HANDSHAKE)
    return client


def text(value: dict) -> bytes:
    """A text frame as a client sends it, masked with zeros."""
    payload = json.dumps(value).encode()
    return b"\x81" + bytes([0x80 | 126]) + len(payload).to_bytes(2, "big") + bytes(4) + payload


def subscribe(channel: str, **more: str) -> bytes:
    """The frame that asks for a channel."""
    return text({"event": "pusher:subscribe", "data": {"channel": channel, **more}})


PING = text({"event": "pusher:ping"})
