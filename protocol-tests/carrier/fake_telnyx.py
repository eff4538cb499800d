#!/usr/bin/env python3
"""fake_telnyx: a stand-in for the Telnyx Messaging API v2, for tests and demos.

It accepts messages like the carrier does, answers in the official shape, sends
signed webhooks, and can be told to misbehave in every way that matters: slow,
rate limited, broken, gone after accepting, duplicate or out-of-order webhooks.
Everything it saw can be read back, so a test can assert on it.

Needs Python 3.11 and nothing else. With `cryptography` or `PyNaCl` installed the
signatures are made by those; otherwise by a small built-in Ed25519.

Quick start:
    ./fake_telnyx.py --port 23001 --webhook-url http://127.0.0.1:23002/hook
    curl -s 127.0.0.1:23001/_key
    curl -s -XPOST 127.0.0.1:23001/v2/messages -H 'Authorization: Bearer KEY_TEST' \\
         -H 'Content-Type: application/json' \\
         -d '{"from":"+13125550100","to":"+13125550101","text":"hello"}'
    curl -s 127.0.0.1:23001/_requests

See README.md beside this file for the admin endpoints, faults and magic numbers.
"""
from __future__ import annotations

import argparse
import base64
import hashlib
import heapq
import http.client
import itertools
import json
import math
import os
import random
import re
import signal
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = "1.0"

# --------------------------------------------------------------------------
# Ed25519
# --------------------------------------------------------------------------


class _PureEd25519:
    """RFC 8032 Ed25519, signing only. Slow (milliseconds) and not constant time: tests only."""

    q = 2**255 - 19
    order = 2**252 + 27742317777372353535851937790883648493

    def __init__(self, seed: bytes):
        q = self.q
        self.d = -121665 * pow(121666, q - 2, q) % q
        self.sqrt_m1 = pow(2, (q - 1) // 4, q)
        by = 4 * pow(5, q - 2, q) % q
        bx = self._recover_x(by)
        self.base = (bx, by, 1, bx * by % q)
        digest = hashlib.sha512(seed).digest()
        a = int.from_bytes(digest[:32], "little")
        a &= (1 << 254) - 8
        a |= 1 << 254
        self.a, self.prefix = a, digest[32:]
        self.public = self._pack(self._times(a, self.base))

    def _recover_x(self, y: int) -> int:
        q = self.q
        xx = (y * y - 1) * pow(self.d * y * y + 1, q - 2, q) % q
        x = pow(xx, (q + 3) // 8, q)
        if (x * x - xx) % q:
            x = x * self.sqrt_m1 % q
        return q - x if x & 1 else x

    def _plus(self, p, r):
        q = self.q
        a = (p[1] - p[0]) * (r[1] - r[0]) % q
        b = (p[1] + p[0]) * (r[1] + r[0]) % q
        c = 2 * p[3] * r[3] * self.d % q
        e = 2 * p[2] * r[2] % q
        f, g, h, i = b - a, e - c, e + c, b + a
        return (f * g % q, h * i % q, g * h % q, f * i % q)

    def _times(self, n: int, p):
        acc = (0, 1, 1, 0)
        while n:
            if n & 1:
                acc = self._plus(acc, p)
            p = self._plus(p, p)
            n >>= 1
        return acc

    def _pack(self, p) -> bytes:
        zi = pow(p[2], self.q - 2, self.q)
        x, y = p[0] * zi % self.q, p[1] * zi % self.q
        return (y | ((x & 1) << 255)).to_bytes(32, "little")

    def sign(self, msg: bytes) -> bytes:
        r = int.from_bytes(hashlib.sha512(self.prefix + msg).digest(), "little") % self.order
        big_r = self._pack(self._times(r, self.base))
        k = int.from_bytes(hashlib.sha512(big_r + self.public + msg).digest(), "little") % self.order
        return big_r + ((r + k * self.a) % self.order).to_bytes(32, "little")


class Signer:
    def __init__(self, seed: bytes, backend: str = "auto"):
        self.seed = seed
        self.backend = None
        if backend in ("auto", "cryptography"):
            try:
                from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
                from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

                key = Ed25519PrivateKey.from_private_bytes(seed)
                self.public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
                self._sign, self.backend = key.sign, "cryptography"
            except ImportError:
                if backend != "auto":
                    raise SystemExit("the cryptography package is not installed")
        if self.backend is None and backend in ("auto", "pynacl"):
            try:
                from nacl.signing import SigningKey

                nkey = SigningKey(seed)
                self.public = bytes(nkey.verify_key)
                self._sign, self.backend = (lambda m: nkey.sign(m).signature), "pynacl"
            except ImportError:
                if backend != "auto":
                    raise SystemExit("the PyNaCl package is not installed")
        if self.backend is None:
            pure = _PureEd25519(seed)
            self.public, self._sign, self.backend = pure.public, pure.sign, "builtin"

    def sign(self, msg: bytes) -> bytes:
        return self._sign(msg)

    @property
    def public_b64(self) -> str:
        return base64.b64encode(self.public).decode()


# --------------------------------------------------------------------------
# Text encoding and segments
# --------------------------------------------------------------------------

GSM7 = set(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM7_EXT = set("^{}\\[~]|€\f")


def is_gsm7(text: str) -> bool:
    return all(c in GSM7 or c in GSM7_EXT for c in text)


# Some of what smart encoding replaces (the documentation lists 200 more).
SMART = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-",
                       "\u2026": "...", "\u00a0": " ", "\u202f": " ", "\t": " " * 7, "\u200b": "", "\ufeff": "", "\u00bd": "1/2"})


def segments(text: str, force_ucs2: bool = False) -> tuple[str, int, int]:
    """(encoding name as the API reports it, units used, number of parts)."""
    if not force_ucs2 and is_gsm7(text):
        n = sum(2 if c in GSM7_EXT else 1 for c in text)
        return "GSM-7", n, 1 if n <= 160 else math.ceil(n / 153)
    n = sum(2 if ord(c) > 0xFFFF else 1 for c in text)
    return "UCS-2", n, 1 if n <= 70 else math.ceil(n / 67)


# --------------------------------------------------------------------------
# Errors: code -> (HTTP status, title, detail). In the README each status is marked
# as seen in the field, documented, or assumed.
# --------------------------------------------------------------------------

ERRORS: dict[str, tuple[int, str, str]] = {
    "10003": (400, "Invalid URL", "The URL provided is invalid, malformed or too long."),
    "10004": (422, "Missing required parameter", "A required parameter was missing."),
    "10005": (404, "Resource not found", "The requested resource or URL could not be found."),
    "10007": (500, "Unexpected error", "An unexpected error occurred."),
    "10009": (401, "Authentication failed", "The authentication header is missing or invalid."),
    "10010": (403, "Authorization failed", "You may not perform this action on this resource."),
    "10011": (429, "Too many requests", "You have exceeded the maximum number of allowed requests."),
    "10015": (400, "Bad Request", "The request is not well-formed."),
    "10016": (422, "Phone number must be in +E.164 format", "The phone number must be in +E.164 format."),
    "10023": (400, "Invalid JSON", "The supplied JSON is invalid."),
    "10026": (422, "Invalid parameter type", "A parameter has the wrong type."),
    "10027": (422, "Unprocessable Entity", "The Idempotency-Key was already used for a different request."),
    "10029": (415, "Expected JSON Content-Type", "The request must be encoded as 'application/json'."),
    "10030": (405, "Method not allowed", "The URL is valid, but the method is not allowed."),
    "10032": (422, "Invalid enumerated value", "The value is not one of the allowed values."),
    "10033": (422, "Value outside of range", "The value is outside of the allowed range."),
    "10036": (409, "Resource is being processed", "A request with this Idempotency-Key is still being processed."),
    "10037": (503, "Service unavailable", "Service is unavailable."),
    "20012": (403, "Account inactive", "The account has been deactivated."),
    "20100": (402, "Insufficient Funds", "There are not enough funds to perform this action."),
    "40001": (400, "Not routable", "The destination is a landline or a non-routable wireless number."),
    "40002": (400, "Blocked as spam - temporary", "The message was flagged by a spam filter."),
    "40003": (400, "Blocked as spam - permanent", "The sending number is permanently blocked."),
    "40004": (400, "Rejected by destination", "The recipient server rejected the message."),
    "40005": (400, "Message expired during transmission", "The message expired before delivery."),
    "40100": (400, "Number not enabled for messaging", "The sending number is not enabled for messaging."),
    **{str(code): (400, "Number's messaging order not complete", "Messaging is not set up for the sending number yet.")
       for code in range(40150, 40160)},
    "40006": (400, "Recipient server unavailable", "The recipient server is unavailable or not responding."),
    "40008": (400, "Undeliverable", "The recipient carrier did not accept the message."),
    "40009": (400, "Invalid message body", "The message body is invalid."),
    "40010": (400, "Not 10DLC registered", "The sending number is not 10DLC-registered but must be."),
    "40011": (400, "Too many requests", "Exceeded the upstream rate limit."),
    "40012": (400, "Invalid messaging destination number", "The carrier deemed the destination number invalid."),
    "40013": (400, "Invalid messaging source number", "The carrier deemed the source number invalid."),
    "40014": (400, "Message expired in queue", "The message's validity period expired before it was sent."),
    "40015": (400, "Blocked as spam - internal", "An internal spam filter flagged the message."),
    "40300": (409, "Blocked due to STOP message", "Messages cannot be sent from '{from}' to '{to}' due to an existing block rule."),
    "40301": (400, "Unsupported message type for the 'to' address", "Sending messages from '{from}' to '{to}' is unsupported."),
    "40302": (400, "Message too large", "The SMS message would be divided into {parts} parts. The maximum is 10."),
    "40303": (404, "Message not found", "The message with ID {id} was not found."),
    "40304": (400, "Invalid combination of message content arguments", "SMS takes 'text' only; 'subject' and 'media_urls' are for MMS."),
    "40305": (400, "Invalid 'from' address", "The 'from' address should be a valid number associated with the sending messaging profile."),
    "40306": (400, "Alpha sender not configured", "The messaging profile has no alphanumeric sender ID."),
    "40309": (400, "Invalid destination region", "The destination region is not whitelisted on the messaging profile."),
    "40310": (400, "Invalid 'to' address", "The 'to' address should be a single valid number."),
    "40312": (400, "Messaging profile is disabled", "The messaging profile is disabled."),
    "40314": (403, "Messaging disabled on account", "Messaging has been disabled on the account."),
    "40315": (400, "Unhealthy 'from' address", "The sending number did not pass the health check."),
    "40316": (400, "No content provided for message", "Either 'text' and/or 'media_urls' must be provided."),
    "40317": (400, "Invalid MMS content", "MMS can contain up to 10 items and must be less than 1 MB."),
    "40318": (429, "Message queue full", "The message queue is full. Wait before resending."),
    "40320": (400, "Temporarily unusable 'from' address", "The sending number is in a pending state."),
    "40321": (400, "No usable numbers on messaging profile", "No usable number could be selected."),
    "40322": (400, "Blocked due to content", "The message contains invalid content."),
    "40329": (400, "Tollfree number is not verified", "The toll-free number is not verified."),
    "40331": (400, "Missing whitelisted destinations", "The messaging profile has no whitelisted destinations."),
    "40333": (429, "Messaging profile spend limit reached", "The daily spend limit of this messaging profile has been reached."),
}


def error_object(code: str, fmt: dict | None = None, pointer: str | None = None, detail: str | None = None) -> dict:
    _, title, text = ERRORS.get(code, (500, "Unexpected error", "An unexpected error occurred."))
    text = detail or text
    for k, v in (fmt or {}).items():
        text = text.replace("{" + k + "}", str(v))
    obj = {"code": code, "title": title, "detail": text,
           "meta": {"url": f"https://developers.telnyx.com/docs/overview/errors/{code}"}}
    if pointer:
        obj["source"] = {"pointer": pointer}
    return obj


class ApiError(Exception):
    def __init__(self, code: str, *, status: int | None = None, headers: dict | None = None, **kw):
        super().__init__(code)
        self.code = code
        self.status = status or ERRORS.get(code, (500,))[0]
        self.headers = headers or {}
        self.obj = error_object(code, **kw)


# --------------------------------------------------------------------------
# Validation against the OpenAPI extract (a small subset of JSON Schema)
# --------------------------------------------------------------------------


class Schemas:
    def __init__(self, path: str | None):
        self.doc = None
        self.path = path
        if path:
            with open(path, encoding="utf-8") as f:
                self.doc = json.load(f)

    def _ref(self, ref: str) -> dict:
        node = self.doc
        for part in ref.lstrip("#/").split("/"):
            node = node[part.replace("~1", "/").replace("~0", "~")]
        return node

    def request_schema(self, path: str) -> dict | None:
        if not self.doc:
            return None
        op = self.doc["paths"].get(path, {}).get("post")
        if not op or "requestBody" not in op:
            return None
        return op["requestBody"]["content"]["application/json"]["schema"]

    def check(self, value, schema: dict, at: str = "") -> list[tuple[str, str, str]]:
        """List of (error code, JSON pointer, what is wrong)."""
        if "$ref" in schema:
            return self.check(value, self._ref(schema["$ref"]), at)
        out: list[tuple[str, str, str]] = []
        for alt in ("oneOf", "anyOf"):
            if alt in schema:
                if not any(not self.check(value, s, at) for s in schema[alt]):
                    out.append(("10026", at, f"fits none of the {alt} alternatives"))
        types = schema.get("type")
        if types:
            types = [types] if isinstance(types, str) else types
            if not any(_is_type(value, t) for t in types):
                return [("10026", at, f"must be of type {' or '.join(types)}, got {_type_name(value)}")]
        if value is None:
            return out
        if "enum" in schema and value not in schema["enum"]:
            out.append(("10032", at, f"must be one of {schema['enum']}"))
        if isinstance(value, str):
            if "pattern" in schema and not re.search(schema["pattern"], value):
                out.append(("10015", at, f"does not match {schema['pattern']}"))
            if len(value) < schema.get("minLength", 0) or len(value) > schema.get("maxLength", 1 << 30):
                out.append(("10015", at, "has a wrong length"))
            if schema.get("format") == "date-time" and parse_time(value) is None:
                out.append(("10015", at, "is not an ISO 8601 date-time"))
            if schema.get("format") == "url" and not is_url(value):
                out.append(("10003", at, "is not a URL"))
            if schema.get("format") == "uuid" and not is_uuid(value):
                out.append(("10015", at, "is not a UUID"))
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if value < schema.get("minimum", -math.inf) or value > schema.get("maximum", math.inf):
                out.append(("10033", at, "is out of range"))
        if isinstance(value, list) and "items" in schema:
            for i, item in enumerate(value):
                out += self.check(item, schema["items"], f"{at}/{i}")
        if isinstance(value, dict):
            for name in schema.get("required", []):
                if name not in value:
                    out.append(("10004", f"{at}/{name}", f"'{name}' is required"))
            for name, sub in schema.get("properties", {}).items():
                if name in value:
                    out += self.check(value[name], sub, f"{at}/{name}")
        return out

    def unknown(self, value: dict, schema: dict | None) -> list[str]:
        if not schema:
            return []
        if "$ref" in schema:
            schema = self._ref(schema["$ref"])
        return sorted(set(value) - set(schema.get("properties", {})))


def _is_type(v, t: str) -> bool:
    return {"object": isinstance(v, dict), "array": isinstance(v, list), "string": isinstance(v, str),
            "boolean": isinstance(v, bool), "null": v is None,
            "integer": isinstance(v, int) and not isinstance(v, bool),
            "number": isinstance(v, (int, float)) and not isinstance(v, bool)}.get(t, True)


def _type_name(v) -> str:
    return next((t for t in ("object", "array", "string", "boolean", "null", "integer", "number") if _is_type(v, t)), "?")


def is_url(s: str) -> bool:
    try:
        u = urllib.parse.urlsplit(s)
    except ValueError:
        return False
    return u.scheme in ("http", "https") and bool(u.hostname) and len(s) <= 2000


def is_uuid(s: str) -> bool:
    try:
        uuid.UUID(s)
        return True
    except ValueError:
        return False


def parse_time(s: str):
    try:
        t = datetime.fromisoformat(s)
        return t if t.tzinfo else t.replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def now_iso(offset_s: float = 0) -> str:
    return (datetime.now(timezone.utc) + timedelta(seconds=offset_s)).isoformat(timespec="milliseconds")


E164 = re.compile(r"^\+[1-9][0-9]{6,14}$")
SHORT = re.compile(r"^\+?[0-9]{5,6}$")
ALPHA = re.compile(r"^(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}$")
IDEM = re.compile(r"^[A-Za-z0-9_:-]{1,255}$")
NANP = re.compile(r"^\+1[2-9]\d{9}$")
GROUP_FROM = re.compile(r"^\+1(?!8(?:00|33|44|55|66|77|88))[2-9]\d{9}$")
STOP_WORDS = {"STOP", "STOPALL", "STOP ALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"}
START_WORDS = {"START", "UNSTOP"}
HELP_WORDS = {"HELP", "INFO"}

# Faults by name. `POST /_faults {"preset": NAME, ...}` takes one and may override any field.
PRESETS: dict[str, dict] = {
    "latency": {"delay_ms": 500},
    "rate_limited": {"error": "10011", "retry_after": 1},
    "queue_full": {"error": "40318", "retry_after": 2},
    "spend_limit": {"error": "40333"},
    "server_error": {"error": "10007"},
    "unavailable": {"error": "10037"},
    "bad_gateway_html": {"status": 502, "raw_body": "<html><body>502 Bad Gateway</body></html>", "content_type": "text/html"},
    "error_after_accept": {"accept": True, "error": "10007"},
    "timeout_before": {"hang": "before"},
    "timeout_after": {"hang": "after"},
    "reset_before": {"reset": "before"},
    "reset_after": {"reset": "after"},
    "truncated_after": {"reset": "mid_body"},
    "garbage_after": {"accept": True, "status": 200, "raw_body": "{\"data\": {\"id\": "},
    "no_id_after": {"accept": True, "status": 200, "raw_body": "{\"data\": {\"record_type\": \"message\"}}"},
    "invalid_number": {"error": "40310"},
    "opted_out": {"error": "40300"},
    "profile_disabled": {"error": "40312"},
    "unregistered": {"final": {"status": "delivery_failed", "errors": ["40010"]}},
    "undeliverable": {"final": {"status": "delivery_failed", "errors": ["40008"]}},
    "not_routable": {"final": {"status": "delivery_failed", "errors": ["40001"]}},
    "sending_failed": {"final": {"status": "sending_failed", "errors": ["40014"]}},
    "unconfirmed": {"final": {"status": "delivery_unconfirmed", "errors": []}},
    "duplicate_webhooks": {"webhooks": {"duplicate": 2}},
    "out_of_order_webhooks": {"webhooks": {"reorder": True}},
    "no_webhooks": {"webhooks": {"drop": ["message.sent", "message.finalized"]}},
    "no_final_webhook": {"webhooks": {"drop": ["message.finalized"]}},
    "tampered_webhooks": {"webhooks": {"tamper": True}},
    "unsigned_webhooks": {"webhooks": {"unsigned": True}},
    "stale_webhooks": {"webhooks": {"stale_s": 900}},
    "webhook_before_response": {"delay_ms": 700, "accept_first": True},
}

# Destinations with a fixed behaviour (area code 500 is never a person). `once` = only the first
# request with the same destination and text.
MAGIC: dict[str, tuple[str, bool]] = {
    "+15005550001": ("invalid_number", False),
    "+15005550002": ("opted_out", False),
    "+15005550003": ("spend_limit", False),
    "+15005550004": ("profile_disabled", False),
    "+15005550005": ("rate_limited", True),
    "+15005550006": ("unavailable", True),
    "+15005550007": ("server_error", False),
    "+15005550008": ("timeout_after", True),
    "+15005550009": ("reset_after", True),
    "+15005550010": ("reset_before", True),
    "+15005550011": ("timeout_before", True),
    "+15005550012": ("not_routable", False),
    "+15005550013": ("undeliverable", False),
    "+15005550014": ("unconfirmed", False),
    "+15005550015": ("sending_failed", False),
    "+15005550016": ("duplicate_webhooks", False),
    "+15005550017": ("out_of_order_webhooks", False),
    "+15005550018": ("no_final_webhook", False),
    "+15005550019": ("error_after_accept", True),
    "+15005550020": ("truncated_after", True),
    "+15005550021": ("webhook_before_response", False),
    "+15005550022": ("bad_gateway_html", True),
}


# --------------------------------------------------------------------------
# State
# --------------------------------------------------------------------------


class Scheduler:
    """Runs jobs at a time, on a small pool, so a slow webhook receiver delays nobody else."""

    def __init__(self, workers: int = 16):
        self.heap: list = []
        self.cond = threading.Condition()
        self.seq = itertools.count()
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="job")
        self.pending = 0
        self.generation = 0
        threading.Thread(target=self._loop, daemon=True, name="scheduler").start()

    def at(self, delay_s: float, fn, *args):
        with self.cond:
            self.pending += 1
            heapq.heappush(self.heap, (time.monotonic() + max(0.0, delay_s), next(self.seq), self.generation, fn, args))
            self.cond.notify()

    def clear(self):
        with self.cond:
            self.generation += 1
            self.pending -= len(self.heap)
            self.heap.clear()

    def _loop(self):
        while True:
            with self.cond:
                while not self.heap:
                    self.cond.wait()
                due = self.heap[0][0] - time.monotonic()
                if due > 0:
                    self.cond.wait(due)
                    continue
                _, _, gen, fn, args = heapq.heappop(self.heap)
            self.pool.submit(self._run, gen, fn, args)

    def _run(self, gen, fn, args):
        try:
            if gen == self.generation:
                fn(*args)
        except Exception as exc:  # a broken job must not vanish silently
            print(json.dumps({"event": "job_failed", "error": repr(exc)}), file=sys.stderr, flush=True)
        finally:
            with self.cond:
                self.pending -= 1


DEFAULTS = {
    "api_keys": ["KEY_TEST"],
    "own": [],                        # numbers allowed as `from`; empty = any
    "profile_id": "40017f8e-49bd-4f16-9e3d-ef103f916228",
    "organization_id": "47a530f8-4362-4526-829b-bcee17fd9f7a",
    "webhook_url": None,              # of the messaging profile
    "webhook_failover_url": None,
    "profile_enabled": True,
    "clock_offset_s": 0,              # of the times in bodies; signatures keep the true time
    "sent_delay_ms": 30,
    "final_delay_ms": 80,
    "final_status": "delivered",
    "manual_finalize": False,
    "latency_ms": 0,
    "latency_jitter_ms": 0,
    "rps": 0,                         # 0 = no rate limit; otherwise 429 above it
    "webhook_timeout_ms": 2000,
    "webhook_attempts": 3,            # per URL
    "webhook_backoff_ms": 1000,       # 1x, 2x, 4x ...
    "webhook_json": "pretty",         # pretty | compact | mixed
    "duplicate_rate": 0.0,            # share of webhooks sent twice
    "reorder_rate": 0.0,              # share of messages whose two webhooks are swapped
    "error_rate": 0.0,                # share of sends answered 500 without accepting
    "idempotency": "on",              # on | off (the header is ignored)
    "idempotency_ttl_s": 86400,
    "smart_encoding": False,          # of the messaging profile: typographic characters are replaced before counting
    "group_ids": "shared",            # shared | own: whether the reports of a group's recipients have ids of their own
    "loopback": False,                # a message to an own number comes back as message.received
    "magic": True,
    "strict": False,                  # unknown request fields are an error
    "schedule_min_s": 300,
    "schedule_max_s": 5 * 86400,
    "hang_ms": 60000,
}


class State:
    def __init__(self, settings: dict, signer: Signer, schemas: Schemas, log=None, seed: int | None = None):
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.initial = json.loads(json.dumps(settings))
        self.cfg = json.loads(json.dumps(settings))
        self.signer, self.schemas, self.log = signer, schemas, log
        self.jobs = Scheduler()
        self.random = random.Random(seed)
        self.insecure = ssl._create_unverified_context()
        self.clear()

    def clear(self):
        with self.lock:
            if hasattr(self, "jobs"):
                self.jobs.clear()
            self.requests: list[dict] = []
            self.messages: dict[str, dict] = {}
            self.order: list[str] = []
            self.events: list[dict] = []
            self.faults: list[dict] = []
            self.blocked: set[str] = set()
            self.idem: dict[tuple, dict] = {}
            self.seen: dict[tuple, int] = {}
            self.window: list[float] = []
            self.fault_seq = itertools.count(1)
            self.req_seq = itertools.count(1)
            self.changed.notify_all()

    def bump(self):
        with self.lock:
            self.changed.notify_all()

    # ---- statistics and waiting

    def stats(self) -> dict:
        with self.lock:
            accepted: dict[tuple, int] = {}
            for mid in self.order:
                m = self.messages[mid]
                sig = (m["from"]["phone_number"], ",".join(t["phone_number"] for t in m["to"]), m.get("text"),
                       tuple(x["url"] for x in m["media"]))
                accepted[sig] = accepted.get(sig, 0) + 1
            ok = [e for e in self.events if any(a.get("ok") for a in e["attempts"])]
            return {
                "requests": len(self.requests),
                "sends": sum(1 for r in self.requests if r["method"] == "POST"),
                "accepted": len(self.order),
                "distinct": len(accepted),
                "sent_twice": [{"from": k[0], "to": k[1], "text": k[2], "times": v} for k, v in accepted.items() if v > 1],
                "asks": sum(1 for r in self.requests if r["method"] == "GET" and r["path"].startswith("/v2/messages/")),
                "replayed": sum(1 for r in self.requests if r.get("replayed")),
                "events": len(self.events),
                "events_delivered": len(ok),
                "events_given_up": sum(1 for e in self.events if e["state"] == "given_up"),
                "webhook_posts": sum(len(e["attempts"]) for e in self.events),
                "pending_jobs": self.jobs.pending,
                "opted_out": sorted(self.blocked),
            }

    def wait(self, wants: dict, timeout: float) -> tuple[bool, dict]:
        end = time.monotonic() + timeout
        with self.lock:
            while True:
                s = self.stats()
                if all(s.get(k, 0) >= v if k != "idle" else s["pending_jobs"] == 0 for k, v in wants.items()):
                    return True, s
                left = end - time.monotonic()
                if left <= 0:
                    return False, s
                self.changed.wait(min(left, 0.05))

    # ---- accepting a message

    def rate_headers(self) -> tuple[dict, bool]:
        rps = self.cfg["rps"]
        if not rps:
            return {}, False
        t = time.monotonic()
        with self.lock:
            self.window = [x for x in self.window if t - x < 1.0]
            over = len(self.window) >= rps
            if not over:
                self.window.append(t)
            left = max(0, int(rps) - len(self.window))
            reset = max(0.0, 1.0 - (t - self.window[0])) if self.window else 0
        headers = {"x-ratelimit-limit": str(int(rps)), "x-ratelimit-remaining": str(left),
                   "x-ratelimit-reset": str(math.ceil(reset))}
        if over:
            headers["retry-after"] = str(max(1, math.ceil(reset)))
        return headers, over

    def pick_fault(self, path: str, body: dict) -> dict:
        to, text = body.get("to"), body.get("text") or ""
        with self.lock:
            for f in self.faults:
                m = f.get("match") or {}
                if f["left"] == 0:
                    continue
                if any((m.get("to") and m["to"] != to, m.get("from") and m["from"] != body.get("from"),
                        m.get("text") and m["text"] not in text, m.get("path") and m["path"] != path)):
                    continue
                f["matched"] += 1
                if f["matched"] <= f.get("skip", 0):
                    continue
                if f["left"] > 0:
                    f["left"] -= 1
                f["used"] += 1
                return f
            if self.cfg["magic"] and isinstance(to, str) and to in MAGIC:
                name, once = MAGIC[to]
                n = self.seen[(to, text)] = self.seen.get((to, text), 0) + 1
                if not once or n == 1:
                    return {"id": f"magic:{name}", **PRESETS[name]}
            if self.cfg["error_rate"] and self.random.random() < self.cfg["error_rate"]:
                return {"id": "error_rate", **PRESETS["server_error"]}
        return {}

    def look_up_fault(self) -> dict:
        """Of `GET /messages/{id}`: only faults that name this path."""
        with self.lock:
            for f in self.faults:
                if (f.get("match") or {}).get("path") == LOOK_UP and f["left"] != 0:
                    f["left"] -= f["left"] > 0
                    f["used"] += 1
                    return f
        return {}

    def validate(self, path: str, body) -> tuple[list, list]:
        """(errors as (code, pointer, detail), unknown field names)"""
        if not isinstance(body, dict):
            return [("10015", "", "the body must be a JSON object")], []
        schema = self.schemas.request_schema(path)
        problems = self.schemas.check(body, schema) if schema else ([] if "to" in body else [("10004", "/to", "'to' is required")])
        return problems, self.schemas.unknown(body, schema)

    def build(self, path: str, body: dict) -> dict:
        """Apply the carrier's own rules; returns the message or raises ApiError."""
        cfg = self.cfg
        src, dst = body.get("from"), body.get("to")
        media = body.get("media_urls") or []
        text = body.get("text")
        if path == "/messages/group_mms":
            if not isinstance(dst, list) or not 1 <= len(dst) <= 8 or not all(isinstance(x, str) and E164.match(x) for x in dst):
                raise ApiError("40310", pointer="/to")
            if len(set(dst)) != len(dst):
                raise ApiError("40310", pointer="/to")
            # Long codes of the US and Canada only.
            if not GROUP_FROM.match(str(src)) or not all(NANP.match(t) for t in dst):
                raise ApiError("40301", fmt={"from": src, "to": dst[0]})
            targets = dst
        else:
            if not isinstance(dst, str) or not (E164.match(dst) or SHORT.match(dst)):
                raise ApiError("40310", pointer="/to")
            targets = [dst]
        if src is None:
            if body.get("messaging_profile_id") and cfg["own"]:
                src = cfg["own"][len(self.order) % len(cfg["own"])]
            elif body.get("messaging_profile_id"):
                raise ApiError("40321")
            else:
                raise ApiError("40305", pointer="/from")
        if not (E164.match(src) or SHORT.match(src) or ALPHA.match(src)):
            raise ApiError("40305", pointer="/from")
        if cfg["own"] and src not in cfg["own"] and not ALPHA.match(src):
            raise ApiError("40305", pointer="/from")
        if src in targets:
            raise ApiError("40310", pointer="/to", detail=f"Source and destination cannot be the same number: {src}")
        if not cfg["profile_enabled"]:
            raise ApiError("40312")
        if not text and not media:
            raise ApiError("40316")
        kind = body.get("type") or ("MMS" if media or body.get("subject") or path.endswith("group_mms") else "SMS")
        if kind == "SMS" and (media or body.get("subject")):
            raise ApiError("40304")
        if kind == "MMS" and len(media) > 10:
            raise ApiError("40317", pointer="/media_urls")
        smart = text or ""
        if kind == "SMS" and body.get("encoding") != "ucs2" and (cfg["smart_encoding"] or body.get("encoding") == "gsm7"):
            smart = smart.translate(SMART)
        enc, units, parts = segments(smart, body.get("encoding") == "ucs2")
        if body.get("encoding") == "gsm7" and enc != "GSM-7":
            raise ApiError("40009", status=400, pointer="/text", detail="The text has characters outside GSM-7.")
        if kind == "MMS":
            enc, parts = "UTF-8", 1
        if parts > 10:
            raise ApiError("40302", fmt={"parts": parts}, pointer="/text")
        for t in targets:
            if t in self.blocked:
                raise ApiError("40300", fmt={"from": src, "to": t})
        status, send_at = "queued", None
        if body.get("send_at") or path == "/messages/schedule":
            send_at = parse_time(body.get("send_at") or "")
            if send_at is None:
                raise ApiError("10004", pointer="/send_at")
            ahead = (send_at - datetime.now(timezone.utc)).total_seconds()
            if not cfg["schedule_min_s"] - 1 <= ahead <= cfg["schedule_max_s"]:
                raise ApiError("10033", pointer="/send_at")
            status = "scheduled"
        received = datetime.now(timezone.utc)
        price = f"{0.0040 * parts if kind == 'SMS' else 0.0150:.4f}"
        msg = {
            "record_type": "message", "direction": "outbound", "id": str(uuid.uuid4()), "type": kind,
            "organization_id": cfg["organization_id"],
            "messaging_profile_id": body.get("messaging_profile_id") or cfg["profile_id"],
            "from": {"phone_number": src, "carrier": "Telnyx", "line_type": "Wireless"},
            "to": [{"phone_number": t, "status": status, "carrier": "FAKE CARRIER", "line_type": "Wireless"} for t in targets],
            "cc": [], "text": text or "", "subject": body.get("subject"),
            "media": [{"url": u, "content_type": None, "sha256": None, "size": None} for u in media],
            "webhook_url": body.get("webhook_url") or cfg["webhook_url"],
            "webhook_failover_url": body.get("webhook_failover_url") or cfg["webhook_failover_url"],
            "encoding": enc, "parts": parts, "num_chars": len(text or ""), "tags": [],
            "cost": {"amount": price, "currency": "USD"},
            "cost_breakdown": {"rate": {"amount": price, "currency": "USD"}, "carrier_fee": {"amount": "0.0000", "currency": "USD"}},
            "tcr_campaign_id": None, "tcr_campaign_billable": False, "tcr_campaign_registered": None,
            "received_at": received.isoformat(timespec="milliseconds"), "sent_at": None, "completed_at": None,
            "valid_until": (received + timedelta(hours=1)).isoformat(timespec="milliseconds"),
            "errors": [],
        }
        if smart != (text or ""):
            msg["smart_encoding"] = {"smart_encoding_applied": True, "final_encoding": enc.lower().replace("-", ""), "segment_count": parts,
                                     "character_count": len(smart), "length_change": len(smart) - len(text or "")}
        if path == "/messages/group_mms":
            msg["group_message_id"] = msg["id"]
            msg["cost"]["amount"] = f"{0.0150 * len(targets):.4f}"
        if send_at:
            msg["send_at"] = send_at.isoformat(timespec="milliseconds")
        msg["_body"] = body
        return msg

    def public(self, msg: dict) -> dict:
        return json.loads(json.dumps({k: v for k, v in msg.items() if not k.startswith("_")}))

    def accept(self, msg: dict, fault: dict):
        """From here on the message exists: it will be sent whatever the caller sees."""
        cfg = self.cfg
        hooks = fault.get("webhooks") or {}
        with self.lock:
            self.messages[msg["id"]] = msg
            self.order.append(msg["id"])
            msg["_hooks"] = hooks
            msg["_final"] = fault.get("final")
            first = cfg["sent_delay_ms"] / 1000
            second = cfg["final_delay_ms"] / 1000
            if "send_at" in msg:
                wait = (parse_time(msg["send_at"]) - datetime.now(timezone.utc)).total_seconds()
                first, second = first + wait, second + wait
            if hooks.get("delay_ms"):
                first += hooks["delay_ms"] / 1000
                second += hooks["delay_ms"] / 1000
            if hooks.get("reorder") or (cfg["reorder_rate"] and self.random.random() < cfg["reorder_rate"]):
                first, second = second + 0.05, first
            self.jobs.at(first, self.became_sent, msg["id"])
            if not cfg["manual_finalize"]:
                self.jobs.at(second, self.became_final, msg["id"])
            self.changed.notify_all()

    def now(self) -> str:
        """The carrier's own clock."""
        return now_iso(self.cfg["clock_offset_s"])

    # ---- life after acceptance

    def became_sent(self, mid: str):
        with self.lock:
            msg = self.messages.get(mid)
            if not msg or msg["to"][0]["status"] == "cancelled":
                return
            spec = msg["_final"] or {}
            if spec.get("status") == "sending_failed":
                return  # never handed to the carrier, so no message.sent
            msg["sent_at"] = msg["sent_at"] or self.now()
            msg["valid_until"] = None
            snapshot = self.public(msg)
            for t in snapshot["to"]:
                t["status"] = "sent"
            for t in msg["to"]:
                if t["status"] in ("queued", "sending", "scheduled"):
                    t["status"] = "sent"
        self.report("message.sent", snapshot, msg)
        if self.cfg["loopback"]:
            for t in snapshot["to"]:
                if t["phone_number"] in self.cfg["own"]:
                    group = [o["phone_number"] for o in snapshot["to"]] if "group_message_id" in snapshot else []
                    self.inbound({"from": snapshot["from"]["phone_number"], "to": t["phone_number"], "text": snapshot["text"], "cc": group,
                                  "media": [{"url": m["url"], "content_type": "image/png", "size": 1024} for m in snapshot["media"]]})

    def report(self, event_type: str, snapshot: dict, msg: dict, only: str | None = None):
        """An event; of a message to a group one for each recipient."""
        if "group_message_id" not in snapshot:
            self.emit(event_type, snapshot, msg)
            return
        for i, t in enumerate(snapshot["to"]):
            if only in (None, t["phone_number"]):
                own = {"id": str(uuid.uuid5(uuid.UUID(msg["id"]), t["phone_number"]))} if self.cfg["group_ids"] == "own" else {}
                errors = [{**e, "source": {"pointer": "/to/0/phone_number"}} for e in snapshot["errors"]]
                self.emit(event_type, {**snapshot, **own, "to": [t], "errors": errors if t["status"].endswith("failed") else [],
                                       "cost": {"amount": "0.0150", "currency": "USD"}}, msg)

    def became_final(self, mid: str, status: str | None = None, errors: list | None = None, only: str | None = None):
        with self.lock:
            msg = self.messages.get(mid)
            if not msg or msg["to"][0]["status"] == "cancelled":
                return
            spec = msg["_final"] or {}
            given = status or spec.get("status")
            status = given or self.cfg["final_status"]
            errors = errors if errors is not None else spec.get("errors") or []
            msg["completed_at"] = self.now()
            if status not in ("sending_failed", "expired"):
                msg["sent_at"] = msg["sent_at"] or self.now()
            msg["valid_until"] = None
            fmt = {"from": msg["from"]["phone_number"], "to": msg["to"][0]["phone_number"]}
            msg["errors"] = [error_object(c, fmt, pointer="/to/0/phone_number") if isinstance(c, str) else c for c in errors]
            for t in msg["to"]:
                # Of recipients elsewhere the carrier hears nothing when they are in a group.
                is_deaf = "group_message_id" in msg and not given and t["phone_number"] not in self.cfg["own"]
                if only in (None, t["phone_number"]):
                    t["status"] = "unknown" if is_deaf else status
            snapshot = self.public(msg)
        self.report("message.finalized", snapshot, msg, only)

    def inbound(self, spec: dict) -> dict:
        cfg = self.cfg
        src, dst, text = spec["from"], spec["to"], spec.get("text", "")
        word = re.sub(r"\s+", " ", text).strip().upper()
        auto = spec.get("autoresponse_type")
        with self.lock:
            if word in STOP_WORDS:
                self.blocked.add(src)
                auto = auto or "STOP"
            elif word in START_WORDS:
                self.blocked.discard(src)
                auto = auto or "START"
            elif word in HELP_WORDS:
                auto = auto or "HELP"
        enc, _, parts = segments(text)
        media = [{"url": m["url"], "content_type": m.get("content_type", "image/png"), "sha256": m.get("sha256"),
                  "size": m.get("size", 1024)} for m in spec.get("media", [])]
        payload = {
            "record_type": "message", "direction": "inbound", "id": spec.get("id") or str(uuid.uuid4()),
            "type": "MMS" if media or spec.get("cc") else "SMS", "organization_id": cfg["organization_id"],
            "messaging_profile_id": cfg["profile_id"],
            "from": {"phone_number": src, "carrier": spec.get("carrier", "T-Mobile USA"), "line_type": spec.get("line_type", "Wireless")},
            "to": [{"phone_number": d, "status": "webhook_delivered", "carrier": "Telnyx", "line_type": "Wireless"}
                   for d in (dst if isinstance(dst, list) else [dst])],
            "cc": spec.get("cc", []), "text": text, "subject": spec.get("subject"), "media": media,
            "webhook_url": cfg["webhook_url"], "webhook_failover_url": cfg["webhook_failover_url"],
            "encoding": enc, "parts": parts, "tags": [], "cost": None,
            "received_at": self.now(), "sent_at": None, "completed_at": None, "valid_until": None, "errors": [],
        }
        if auto:
            payload["autoresponse_type"] = auto
        hooks = dict(spec.get("webhooks") or {})
        for k in ("duplicate", "delay_ms", "tamper", "unsigned", "stale_s"):
            if k in spec:
                hooks[k] = spec[k]
        return self.emit("message.received", payload, {"_hooks": hooks}, event_id=spec.get("event_id"))

    # ---- webhooks

    def targets(self, event_type: str, payload: dict, msg: dict | None) -> list[str]:
        cfg, body = self.cfg, (msg or {}).get("_body") or {}
        urls = []
        if event_type != "message.received":
            urls += [body.get("webhook_url"), body.get("webhook_failover_url")]
        if not any(urls) or body.get("use_profile_webhooks", True):
            urls += [cfg["webhook_url"], cfg["webhook_failover_url"]]
        out: list[str] = []
        for u in urls:
            if u and u not in out:
                out.append(u)
        return out

    def emit(self, event_type: str, payload: dict, msg: dict | None, event_id: str | None = None, urls: list | None = None) -> dict:
        hooks = (msg or {}).get("_hooks") or {}
        event = {"id": event_id or str(uuid.uuid4()), "event_type": event_type, "occurred_at": self.now(), "payload": payload,
                 "urls": urls or self.targets(event_type, payload, msg), "attempts": [], "state": "queued", "hooks": hooks}
        if event_type in (hooks.get("drop") or []):
            event["state"] = "dropped"
        elif not event["urls"]:
            event["state"] = "no_url"
        with self.lock:
            self.events.append(event)
            self.changed.notify_all()
        if event["state"] == "queued":
            delay = hooks.get("delay_ms", 0) / 1000 if event_type == "message.received" else 0
            copies = 1 + int(hooks.get("duplicate", 0))
            if self.cfg["duplicate_rate"] and self.random.random() < self.cfg["duplicate_rate"]:
                copies += 1
            for i in range(copies):
                self.jobs.at(delay + i * 0.02, self.deliver, event, 0, 1)
        return event

    def render(self, event: dict, url: str, attempt: int) -> bytes:
        doc = {"data": {"event_type": event["event_type"], "id": event["id"], "occurred_at": event["occurred_at"],
                        "payload": event["payload"], "record_type": "event"},
               "meta": {"attempt": attempt, "delivered_to": url}}
        style = self.cfg["webhook_json"]
        if style == "mixed":
            style = self.random.choice(["pretty", "compact", "escaped"])
        if style == "pretty":
            return json.dumps(doc, indent=2, ensure_ascii=False).encode()
        if style == "escaped":
            return (json.dumps(doc, indent=1).replace("/", "\\/") + "\n").encode()
        return json.dumps(doc, separators=(",", ":"), ensure_ascii=False).encode()

    def deliver(self, event: dict, url_index: int, attempt: int):
        cfg = self.cfg
        url = event["urls"][url_index]
        hooks = event["hooks"]
        raw = self.render(event, url, attempt)
        stamp = str(int(time.time()) - int(hooks.get("stale_s", 0)))
        sig = base64.b64encode(self.signer.sign(stamp.encode() + b"|" + raw)).decode()
        headers = {"Content-Type": "application/json", "User-Agent": "telnyx-webhooks",
                   "telnyx-timestamp": stamp, "telnyx-signature-ed25519": sig}
        if hooks.get("unsigned"):
            del headers["telnyx-signature-ed25519"]
        if hooks.get("tamper"):
            raw = raw.replace(b"message", b"massage", 1)
        began = time.monotonic()
        rec = {"url": url, "attempt": attempt, "at": now_iso(), "ok": False}
        try:
            rec["status"] = self.post(url, raw, headers, cfg["webhook_timeout_ms"] / 1000)
            rec["ok"] = 200 <= rec["status"] < 300
        except Exception as exc:
            rec["error"] = f"{type(exc).__name__}: {exc}"[:200]
        rec["ms"] = round((time.monotonic() - began) * 1000, 1)
        rec["headers"], rec["body"] = headers, raw.decode("utf-8", "replace")
        with self.lock:
            event["attempts"].append(rec)
            if rec["ok"]:
                event["state"] = "delivered"
            self.changed.notify_all()
        if not rec["ok"]:
            tried_here = sum(1 for a in event["attempts"] if a["url"] == url)
            if tried_here < cfg["webhook_attempts"]:
                self.jobs.at(cfg["webhook_backoff_ms"] / 1000 * 2 ** (tried_here - 1), self.deliver, event, url_index, attempt + 1)
            elif url_index + 1 < len(event["urls"]):
                self.jobs.at(0, self.deliver, event, url_index + 1, attempt + 1)
            elif event["state"] != "delivered":
                event["state"] = "given_up"
                self.bump()

    def post(self, url: str, raw: bytes, headers: dict, timeout: float) -> int:
        u = urllib.parse.urlsplit(url)
        if u.scheme == "https":
            conn = http.client.HTTPSConnection(u.hostname, u.port or 443, timeout=timeout, context=self.insecure)
        else:
            conn = http.client.HTTPConnection(u.hostname, u.port or 80, timeout=timeout)
        try:
            deadline = time.monotonic() + timeout
            conn.request("POST", urllib.parse.urlunsplit(("", "", u.path or "/", u.query, "")), raw, headers)
            if conn.sock:
                conn.sock.settimeout(max(0.01, deadline - time.monotonic()))
            return conn.getresponse().status
        finally:
            conn.close()


# --------------------------------------------------------------------------
# HTTP
# --------------------------------------------------------------------------

LOOK_UP = "/messages/{id}"
SEND_PATHS = {"/messages", "/messages/schedule", "/messages/long_code", "/messages/short_code", "/messages/number_pool",
              "/messages/alphanumeric_sender_id", "/messages/group_mms"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "fake-telnyx/" + VERSION
    timeout = 75
    disable_nagle_algorithm = True
    state: State

    def log_message(self, fmt, *args):  # the own log is JSON, see State.log
        pass

    # -- plumbing

    def reply(self, status: int, obj=None, headers: dict | None = None, raw: bytes | None = None, ctype: str = "application/json"):
        data = raw if raw is not None else json.dumps(obj, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", ctype)
        self.send_header("Content-Length", str(len(data)))
        for k, v in (headers or {}).items():
            self.send_header(k, v)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()

    def abort(self):
        """Drop the connection with a TCP reset."""
        try:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        self.close_connection = True
        try:
            self.connection.close()
        except OSError:
            pass

    def body(self) -> bytes:
        n = int(self.headers.get("Content-Length") or 0)
        if n > 2_000_000:
            raise ApiError("10015", status=413)
        return self.rfile.read(n) if n else b""

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, OSError, ValueError):
            self.close_connection = True

    def route(self):
        url = urllib.parse.urlsplit(self.path)
        query = {k: v[-1] for k, v in urllib.parse.parse_qs(url.query).items()}
        try:
            if url.path.startswith("/_"):
                return self.admin(url.path, query)
            if url.path.startswith("/v2/"):
                return self.api(url.path[3:].rstrip("/"), query)
            self.body()
            return self.reply(404, {"errors": [error_object("10005")]})
        except ApiError as e:
            return self.reply(e.status, {"errors": [e.obj]}, e.headers)

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = route

    # -- the carrier's API

    def api(self, path: str, query: dict):
        st = self.state
        raw = self.body()
        rec = {"n": next(st.req_seq), "at": now_iso(), "method": self.command, "path": "/v2" + path, "query": query,
               "headers": {k.lower(): v for k, v in self.headers.items() if k.lower() != "authorization"},
               "auth_ok": False, "idempotency_key": self.headers.get("Idempotency-Key"),
               "body_sha256": hashlib.sha256(raw).hexdigest(), "body": None, "problems": [], "unknown_fields": [],
               "outcome": "open", "status": None, "message_id": None, "replayed": False, "fault": None}
        with st.lock:
            st.requests.append(rec)
            st.changed.notify_all()
        limits: dict = {}

        def done(status, obj, headers=None, **kw):
            rec.update(outcome="reply", status=status)
            if isinstance(obj, dict) and "errors" in obj:
                rec["error_codes"] = [e.get("code") for e in obj["errors"]]
            self.reply(status, obj, {**limits, **(headers or {})}, **kw)

        try:
            auth = self.headers.get("Authorization") or ""
            key = auth[7:].strip() if auth.lower().startswith("bearer ") else None
            rec["auth_ok"] = key in st.cfg["api_keys"]
            rec["auth_tail"] = key[-4:] if key else None
            if not rec["auth_ok"]:
                raise ApiError("10009")
            limits, over = st.rate_headers()
            if over:
                raise ApiError("10011", headers=limits)
            if self.command == "POST" and path in SEND_PATHS:
                return self.send_message(path, raw, rec, done)
            if path == "/messaging_optouts" and self.command == "GET":
                with st.lock:
                    rows = [{"from": None, "to": n, "keyword": "STOP", "messaging_profile_id": st.cfg["profile_id"],
                             "created_at": now_iso()} for n in sorted(st.blocked)]
                return done(200, {"data": rows, "meta": {"page_number": 1, "page_size": 250, "total_pages": 1, "total_results": len(rows)}})
            m = re.fullmatch(r"/messages/([0-9A-Fa-f-]{36})", path)
            if m and self.command == "GET":
                fault = st.look_up_fault()
                if fault:
                    rec["fault"] = fault["id"]
                    return self.fail(fault, {}, done)
                with st.lock:
                    msg = st.messages.get(m[1])
                    if msg:
                        return done(200, {"data": st.public(msg)})
                raise ApiError("40303", fmt={"id": m[1]})
            if m and self.command == "DELETE":
                with st.lock:
                    msg = st.messages.get(m[1])
                    if not msg:
                        raise ApiError("40303", fmt={"id": m[1]})
                    left = (parse_time(msg["send_at"]) - datetime.now(timezone.utc)).total_seconds() if "send_at" in msg else 0
                    if msg["to"][0]["status"] != "scheduled" or left < min(60, st.cfg["schedule_min_s"]):
                        raise ApiError("10010", detail="Only scheduled messages more than a minute ahead can be cancelled.")
                    for t in msg["to"]:
                        t["status"] = "cancelled"
                    out = st.public(msg)
                return done(200, out)  # not wrapped in "data": that is how the API does it
            if path in SEND_PATHS or m:
                raise ApiError("10030")
            raise ApiError("10005")
        except ApiError as e:
            done(e.status, {"errors": [e.obj]}, e.headers)
        finally:
            if rec["outcome"] == "open":
                rec["outcome"] = "client_gone"
            st.bump()
            if st.log:
                st.log({"event": "request", **{k: rec[k] for k in ("n", "method", "path", "status", "outcome", "message_id", "fault", "replayed")}})

    def send_message(self, path: str, raw: bytes, rec: dict, done):
        st, cfg = self.state, self.state.cfg
        if "json" not in (self.headers.get("Content-Type") or ""):
            raise ApiError("10029")
        try:
            body = json.loads(raw.decode("utf-8"))
        except (ValueError, UnicodeDecodeError):
            raise ApiError("10023") from None
        rec["body"] = body
        problems, rec["unknown_fields"] = st.validate(path, body)
        rec["problems"] = [{"code": c, "pointer": p, "detail": d} for c, p, d in problems]

        # Idempotency-Key: same organisation, method, path and key; 24 hours; only successes are kept.
        slot, key = None, rec["idempotency_key"]
        if key is not None and cfg["idempotency"] == "on":
            if not IDEM.match(key):
                raise ApiError("10015", detail="The Idempotency-Key header is invalid.")
            k = ("POST", path, key)
            with st.lock:
                old = st.idem.get(k)
                if old and old["at"] < time.monotonic() - cfg["idempotency_ttl_s"]:
                    old = None
                if old and old["sha"] != rec["body_sha256"]:
                    raise ApiError("10027")
                if old and old["response"] is None:
                    raise ApiError("10036")
                if old:
                    rec["replayed"] = True
                    rec["message_id"] = old["message_id"]
                    replay = old["response"]
                else:
                    replay = None
                    slot = st.idem[k] = {"sha": rec["body_sha256"], "at": time.monotonic(), "response": None, "message_id": None}
            if replay is not None:
                return done(200, replay, {"Idempotent-Replayed": "true"})

        def release():
            """Keeps nothing for the key unless the send succeeded; before the answer, which a repeat may follow at once."""
            if slot is not None and slot["response"] is None:
                with st.lock:
                    if st.idem.get(("POST", path, key)) is slot:
                        del st.idem[("POST", path, key)]

        try:
            self._send(path, body, problems, rec, done, slot, release)
        finally:
            release()

    def _send(self, path, body, problems, rec, done, slot, release):
        st, cfg = self.state, self.state.cfg
        fault = st.pick_fault(path, body) if isinstance(body, dict) else {}
        rec["fault"] = fault.get("id")
        wait = (cfg["latency_ms"] + (st.random.random() * cfg["latency_jitter_ms"] if cfg["latency_jitter_ms"] else 0)) / 1000
        wait += fault.get("delay_ms", 0) / 1000

        def pause():
            if wait:
                time.sleep(wait)

        if fault.get("hang") == "before":
            rec["outcome"] = "hang_before"
            return self.hang()
        if fault.get("reset") == "before":
            pause()
            rec["outcome"] = "reset_before"
            return self.abort()

        accept_late = not fault.get("accept_first")
        if accept_late:
            pause()
        refuse = ("error" in fault or "status" in fault) and not fault.get("accept")
        if refuse:
            release()
            return self.fail(fault, body, done)
        if problems:
            code, pointer, detail = problems[0]
            code = {"/to": "40310", "/from": "40305"}.get(pointer, code) if code != "10004" else code
            raise ApiError(code, pointer=pointer or None, detail=None if code.startswith("403") else f"{pointer or 'body'}: {detail}")
        if cfg["strict"] and rec["unknown_fields"]:
            raise ApiError("10015", detail=f"Unknown fields: {', '.join(rec['unknown_fields'])}")
        with st.lock:
            msg = st.build(path, body)
            rec["message_id"] = msg["id"]
            answer = {"data": st.public(msg)}
            # An error after accepting is not a success, so nothing is kept for the key: the gap that
            # even Idempotency-Key leaves open.
            if slot is not None and not ("error" in fault or fault.get("status", 200) >= 400):
                slot["response"], slot["message_id"] = answer, msg["id"]
            st.accept(msg, fault)
        if not accept_late:
            pause()
        if fault.get("hang") == "after":
            rec["outcome"] = "hang_after"
            return self.hang()
        if fault.get("reset") == "after":
            rec["outcome"] = "reset_after"
            return self.abort()
        if fault.get("reset") == "mid_body":
            data = json.dumps(answer).encode()
            rec["outcome"] = "reset_mid_body"
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            time.sleep(0.05)
            return self.abort()
        if "error" in fault or "status" in fault or "raw_body" in fault:
            release()
            return self.fail(fault, body, done)
        done(200, answer)

    def fail(self, fault: dict, body: dict, done):
        headers = {str(k): str(v) for k, v in (fault.get("headers") or {}).items()}
        if fault.get("retry_after") is not None:
            headers["retry-after"] = str(fault["retry_after"])
        code = fault.get("error")
        status = fault.get("status") or (ERRORS.get(code, (500,))[0] if code else 500)
        if fault.get("raw_body") is not None:
            return done(status, None, headers, raw=fault["raw_body"].encode(), ctype=fault.get("content_type", "application/json"))
        fmt = {"from": body.get("from"), "to": body.get("to")}
        done(status, {"errors": [error_object(code or "10007", fmt)]}, headers)

    def hang(self):
        """Keep the connection open and say nothing, until the client leaves or hang_ms passes."""
        self.close_connection = True
        end = time.monotonic() + self.state.cfg["hang_ms"] / 1000
        self.connection.settimeout(0.2)
        while time.monotonic() < end:
            try:
                if self.connection.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    # -- admin

    def admin(self, path: str, query: dict):
        st, verb = self.state, self.command
        raw = self.body()
        try:
            data = json.loads(raw) if raw else {}
        except ValueError:
            return self.reply(400, {"error": "the body is not JSON"})
        if path == "/_health":
            return self.reply(200, {"ok": True, "version": VERSION})
        if path == "/_key":
            return self.reply(200, {"public_key": st.signer.public_b64, "hex": st.signer.public.hex(), "backend": st.signer.backend})
        if path == "/_stats":
            return self.reply(200, st.stats())
        if path == "/_catalog":
            return self.reply(200, {"errors": {c: {"status": s, "title": t} for c, (s, t, _) in ERRORS.items()},
                                    "presets": PRESETS, "magic": {n: {"preset": p, "first_time_only": o} for n, (p, o) in MAGIC.items()}})
        if path == "/_settings":
            if verb in ("POST", "PATCH", "PUT"):
                bad = sorted(set(data) - set(DEFAULTS))
                if bad:
                    return self.reply(400, {"error": f"unknown settings: {bad}"})
                with st.lock:
                    st.cfg.update(data)
            return self.reply(200, st.cfg)
        if path == "/_reset" and verb == "POST":
            with st.lock:
                st.clear()
                if not data.get("keep_settings"):
                    st.cfg = json.loads(json.dumps(st.initial))
            return self.reply(200, {"ok": True})
        if path == "/_requests":
            with st.lock:
                if verb == "DELETE":
                    st.requests.clear()
                    return self.reply(200, {"ok": True})
                rows = list(st.requests)
            for field in ("method", "path", "outcome", "message_id", "idempotency_key"):
                if field in query:
                    rows = [r for r in rows if str(r.get(field)) == query[field]]
            for field in ("to", "from", "text"):
                if field in query:
                    rows = [r for r in rows if isinstance(r["body"], dict) and r["body"].get(field) == query[field]]
            return self.reply(200, {"requests": rows, "count": len(rows)})
        if path == "/_messages":
            with st.lock:
                rows = [st.public(st.messages[m]) for m in st.order]
            for field in ("text", "id"):
                if field in query:
                    rows = [r for r in rows if r.get(field) == query[field]]
            if "to" in query:
                rows = [r for r in rows if any(t["phone_number"] == query["to"] for t in r["to"])]
            return self.reply(200, {"messages": rows, "count": len(rows)})
        if path == "/_events":
            with st.lock:
                rows = [json.loads(json.dumps(e)) for e in st.events]
            if "type" in query:
                rows = [r for r in rows if r["event_type"] == query["type"]]
            if "message_id" in query:
                rows = [r for r in rows if r["payload"].get("id") == query["message_id"]]
            return self.reply(200, {"events": rows, "count": len(rows)})
        if path == "/_event" and verb == "POST":
            ev = st.emit(data["event_type"], data.get("payload", {}), {"_hooks": data.get("webhooks") or {}},
                         event_id=data.get("id"), urls=[data["url"]] if data.get("url") else None)
            return self.reply(200, {"event_id": ev["id"], "urls": ev["urls"]})
        m = re.fullmatch(r"/_events/([^/]+)/redeliver", path)
        if m and verb == "POST":
            with st.lock:
                ev = next((e for e in st.events if e["id"] == m[1]), None)
            if not ev:
                return self.reply(404, {"error": "no such event"})
            for i in range(int(data.get("times", 1))):
                st.jobs.at(i * 0.01, st.deliver, ev, 0, len(ev["attempts"]) + 1 + i)
            return self.reply(200, {"ok": True})
        if path == "/_inbound" and verb == "POST":
            if not data.get("from") or not data.get("to"):
                return self.reply(400, {"error": "from and to are needed"})
            ev = st.inbound(data)
            return self.reply(200, {"event_id": ev["id"], "message_id": ev["payload"]["id"], "urls": ev["urls"],
                                    "autoresponse_type": ev["payload"].get("autoresponse_type")})
        if path == "/_finalize" and verb == "POST":
            mid = data.get("id")
            if mid not in st.messages:
                return self.reply(404, {"error": "no such message"})
            st.became_final(mid, data.get("status"), data.get("errors"), data.get("to"))
            return self.reply(200, {"ok": True})
        if path == "/_optouts":
            with st.lock:
                if verb == "POST":
                    st.blocked.update(data.get("numbers", []))
                if verb == "DELETE":
                    st.blocked.difference_update(data.get("numbers", list(st.blocked)))
                return self.reply(200, {"numbers": sorted(st.blocked)})
        if path == "/_faults":
            with st.lock:
                if verb == "POST":
                    fault = dict(PRESETS.get(data.get("preset"), {}))
                    if data.get("preset") and not fault:
                        return self.reply(400, {"error": "unknown preset", "presets": sorted(PRESETS)})
                    fault.update(data)
                    fault.update(id=f"fault:{next(st.fault_seq)}", left=int(data.get("times", 1)), used=0, matched=0)
                    st.faults.append(fault)
                    return self.reply(200, fault)
                if verb == "DELETE":
                    st.faults.clear()
                return self.reply(200, {"faults": st.faults})
        if path == "/_wait":
            timeout = float(query.pop("timeout", "10"))
            wants = {k: int(v) for k, v in query.items()}
            ok, stats = st.wait(wants, timeout)
            return self.reply(200 if ok else 408, {"ok": ok, **stats})
        return self.reply(404, {"error": "unknown admin path"})


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        exc = sys.exc_info()[1]
        if not isinstance(exc, (ConnectionError, TimeoutError, BrokenPipeError)):
            print(json.dumps({"event": "handler_failed", "error": repr(exc)}), file=sys.stderr, flush=True)


def start(settings: dict | None = None, *, host: str = "127.0.0.1", port: int = 0, seed_hex: str | None = None,
          backend: str = "auto", openapi: str | None = None, log=None, rng_seed: int | None = None):
    """Start in this process (for Python tests). Returns (server, state, base_url)."""
    cfg = {**DEFAULTS, **(settings or {})}
    signer = Signer(bytes.fromhex(seed_hex) if seed_hex else os.urandom(32), backend)
    state = State(cfg, signer, Schemas(openapi), log, rng_seed)
    handler = type("BoundHandler", (Handler,), {"state": state})
    server = Server((host, port), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    return server, state, f"http://{host}:{server.server_address[1]}"


def default_openapi() -> str | None:
    here = os.path.dirname(os.path.abspath(__file__))
    path = os.path.join(here, "telnyx-messaging.openapi.json")
    return path if os.path.exists(path) else None


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter,
                                 epilog="Every runtime setting can also be changed while running: POST /_settings. "
                                        "Admin endpoints, faults and magic numbers: README.md, or GET /_catalog.")
    ap.add_argument("--host", default="127.0.0.1")
    ap.add_argument("--port", type=int, default=23001, help="0 picks a free one; the ready line tells which (default %(default)s)")
    ap.add_argument("--api-key", action="append", help="accepted key, repeatable (default KEY_TEST)")
    ap.add_argument("--own", action="append", metavar="NUMBER", help="number allowed as `from`, repeatable; none given = any number")
    ap.add_argument("--profile-id", default=DEFAULTS["profile_id"])
    ap.add_argument("--webhook-url", help="webhook URL of the messaging profile")
    ap.add_argument("--webhook-failover-url")
    ap.add_argument("--seed", metavar="HEX64", help="32-byte private key seed; without it a new key every start")
    ap.add_argument("--public-key-file", help="write the base64 public key there")
    ap.add_argument("--sign-with", choices=["auto", "cryptography", "pynacl", "builtin"], default="auto")
    ap.add_argument("--openapi", help="OpenAPI data to validate requests with (default: the copy beside this file)")
    ap.add_argument("--no-openapi", action="store_true", help="only the built-in rules")
    ap.add_argument("--sent-delay-ms", type=int, default=DEFAULTS["sent_delay_ms"])
    ap.add_argument("--final-delay-ms", type=int, default=DEFAULTS["final_delay_ms"])
    ap.add_argument("--final-status", default=DEFAULTS["final_status"])
    ap.add_argument("--manual-finalize", action="store_true", help="message.finalized only by POST /_finalize")
    ap.add_argument("--latency-ms", type=int, default=0)
    ap.add_argument("--latency-jitter-ms", type=int, default=0)
    ap.add_argument("--rps", type=float, default=0, help="answer 429 above this many requests a second")
    ap.add_argument("--webhook-timeout-ms", type=int, default=DEFAULTS["webhook_timeout_ms"])
    ap.add_argument("--webhook-attempts", type=int, default=DEFAULTS["webhook_attempts"], help="per URL")
    ap.add_argument("--webhook-backoff-ms", type=int, default=DEFAULTS["webhook_backoff_ms"])
    ap.add_argument("--webhook-json", choices=["pretty", "compact", "mixed"], default="pretty",
                    help="layout of webhook bodies; mixed catches receivers that re-serialise before verifying")
    ap.add_argument("--duplicate-rate", type=float, default=0.0)
    ap.add_argument("--reorder-rate", type=float, default=0.0)
    ap.add_argument("--error-rate", type=float, default=0.0)
    ap.add_argument("--idempotency", choices=["on", "off"], default="on", help="off: the Idempotency-Key header is ignored")
    ap.add_argument("--loopback", action="store_true", help="a message to an own number also arrives as message.received")
    ap.add_argument("--no-magic", action="store_true", help="no fixed behaviour for +1500555xxxx")
    ap.add_argument("--strict", action="store_true", help="reject unknown request fields")
    ap.add_argument("--random-seed", type=int)
    ap.add_argument("--while-stdin", action="store_true", help="stop when stdin ends, so that the stand-in never outlives a test")
    ap.add_argument("--quiet", action="store_true", help="no request log on stderr")
    ap.add_argument("--version", action="version", version=VERSION)
    a = ap.parse_args()

    settings = {k: getattr(a, k) for k in DEFAULTS if hasattr(a, k)}
    settings.update(api_keys=a.api_key or ["KEY_TEST"], own=a.own or [], magic=not a.no_magic)
    log = None if a.quiet else (lambda d: print(json.dumps(d), file=sys.stderr, flush=True))
    openapi = None if a.no_openapi else (a.openapi or default_openapi())
    server, state, base = start(settings, host=a.host, port=a.port, seed_hex=a.seed, backend=a.sign_with,
                                openapi=openapi, log=log, rng_seed=a.random_seed)
    if a.public_key_file:
        with open(a.public_key_file, "w", encoding="utf-8") as f:
            f.write(state.signer.public_b64 + "\n")
    print(json.dumps({"event": "ready", "url": base, "api_base": base + "/v2", "public_key": state.signer.public_b64,
                      "signing": state.signer.backend, "openapi": bool(openapi), "pid": os.getpid()}), flush=True)
    stop = threading.Event()
    for s in (signal.SIGINT, signal.SIGTERM):
        signal.signal(s, lambda *_: stop.set())
    if a.while_stdin:
        threading.Thread(target=lambda: (sys.stdin.buffer.read(), stop.set()), daemon=True).start()
    stop.wait()
    server.shutdown()
    print(json.dumps({"event": "stopped", **state.stats()}), flush=True)
    os._exit(0)  # do not wait for hanging connections


if __name__ == "__main__":
    main()
