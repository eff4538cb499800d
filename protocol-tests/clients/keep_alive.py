"""Python's requests, which read no Keep-Alive: statuses of requests with pauses, and how many connections they took."""

import json
import sys
import time

import requests

for line in sys.stdin:
    command = json.loads(line)
    session = requests.Session()
    statuses = []
    for pause in command["pauses"]:
        time.sleep(pause)
        statuses.append(session.get(command["url"]).status_code)
    pool = session.get_adapter("http://").poolmanager.connection_from_url(command["url"])
    print(json.dumps({"id": command["id"], "ok": {"statuses": statuses, "connections": pool.num_connections}}), flush=True)
