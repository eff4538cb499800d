"""Publishes App\\Events\\MessageReceived to user 7: `python3 publish.py "Hello"`."""

import sys
from os import environ

from pusher import Pusher

pusher = Pusher(
    app_id=environ["PUSHER_APP_ID"],
    key=environ["PUSHER_APP_KEY"],
    secret=environ["PUSHER_APP_SECRET"],
    host=environ["PUSHER_HOST"],
    port=int(environ["PUSHER_PORT"]),
    ssl=environ["PUSHER_SCHEME"] == "https",
)
body = sys.argv[1] if len(sys.argv) > 1 else "Hello"
pusher.trigger(["user.7", "private-user.7"], r"App\Events\MessageReceived", {"body": body})
