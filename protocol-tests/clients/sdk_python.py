"""Drives the published Python server SDK with one JSON object a line, like the Node drivers."""

import json
import sys

from pusher import Pusher
from pusher.http import Request


def call(app, port, method, args):
    sdk = Pusher(
        app_id=app["id"],
        key=app["key"],
        secret=app["secret"],
        host="127.0.0.1",
        port=port,
        ssl=False,
        encryption_master_key_base64=app.get("masterKey"),
    )
    if method in ("GET", "POST"):
        # The SDK has no call of its own for other resources of the API.
        path, params = args
        client = sdk._pusher_client
        return client.http.send_request(Request(client, method, f"/apps/{app['id']}{path}", params))
    return getattr(sdk, method)(*args)


def webhook(app, headers, body):
    """What the library makes of a webhook."""
    sdk = Pusher(app_id=app["id"], key=app["key"], secret=app["secret"])
    data = sdk.validate_webhook(headers["x-pusher-key"], headers["x-pusher-signature"], body)
    return {"valid": data is not None, "events": data and data["events"]}


def answer(command):
    try:
        if command["do"] == "webhook":
            return {"ok": webhook(*(command[name] for name in ("app", "headers", "body")))}
        return {"ok": call(*(command[name] for name in ("app", "port", "method", "args")))}
    except Exception as error:  # The test decides which exceptions it expects.
        return {"error": f"{type(error).__name__}: {error}"}


for line in sys.stdin:
    command = json.loads(line)
    print(json.dumps({"id": command["id"], **answer(command)}), flush=True)
