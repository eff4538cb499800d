"""An event and a message with the stock SDK: `python examples/backend/send.py "Hello"`. Packages: README.md."""

import sys
from os import environ

try:
    from pusher import Pusher
    from pusher.errors import PusherError
    from pusher.http import Request
    from requests import RequestException
except ImportError:
    sys.exit("The SDK is missing. Install it into a virtual environment, as examples/backend/README.md says.")

NAMES = ["PUSHER_APP_ID", "PUSHER_APP_KEY", "PUSHER_APP_SECRET", "PUSHER_HOST", "PUSHER_PORT", "PUSHER_SCHEME"]
for name in NAMES:
    if not environ.get(name):
        sys.exit(f"{name} is not set. Save the block that begins with BROADCAST_CONNECTION=pusher as .env and load it: set -a; . ./.env; set +a")

pusher = Pusher(
    app_id=environ["PUSHER_APP_ID"],
    key=environ["PUSHER_APP_KEY"],
    secret=environ["PUSHER_APP_SECRET"],
    host=environ["PUSHER_HOST"],
    port=int(environ["PUSHER_PORT"]),
    ssl=environ["PUSHER_SCHEME"] == "https",
)


def post(path, body):
    """A signed POST. The SDK has no call of its own for paths it does not know, but the parts of one."""
    client = pusher._pusher_client
    return client.http.send_request(Request(client, "POST", f"/apps/{environ['PUSHER_APP_ID']}{path}", body))


def send(text):
    pusher.trigger("user.2", r"App\Events\Greeting", {"text": text})

    # The owners of the numbers; once is enough.
    numbers = [{"number": "+13125550100", "user_id": 1}, {"number": "+13125550101", "user_id": 2}]
    post("/messaging/phone_numbers", {"phone_numbers": numbers})
    answer = post("/messaging/messages", {"user_id": 1, "to": "(312) 555-0101", "text": text})
    print(answer["message"]["status"])


try:
    send(sys.argv[1] if len(sys.argv) > 1 else "Hello")
except RequestException:
    # Its text holds the signed URL, so it is not printed.
    server = f"{environ['PUSHER_SCHEME']}://{environ['PUSHER_HOST']}:{environ['PUSHER_PORT']}"
    sys.exit(f"No server answers at {server}. Is it running?")
except PusherError as refusal:
    sys.exit(f"The server refuses it: {refusal}")
