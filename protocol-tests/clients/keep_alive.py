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
    pools = session.get_adapter(command["url"]).poolmanager.pools
    connections = sum(pools[key].num_connections for key in pools.keys())
    print(json.dumps({"id": command["id"], "ok": {"statuses": statuses, "connections": connections}}), flush=True)
