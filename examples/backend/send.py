"""An event and a message with the stock SDK (pip install pusher): `python3 examples/backend/send.py "Hello"`."""

import sys
from os import environ

from pusher import Pusher
from pusher.http import Request

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


text = sys.argv[1] if len(sys.argv) > 1 else "Hello"
pusher.trigger("user.2", r"App\Events\Greeting", {"text": text})

# Who has which number; once is enough.
numbers = [{"number": "+13125550100", "user_id": 1}, {"number": "+13125550101", "user_id": 2}]
post("/messaging/phone_numbers", {"phone_numbers": numbers})
answer = post("/messaging/messages", {"user_id": 1, "to": "(312) 555-0101", "text": text})
print(answer["message"]["status"])
