"""An agent of Dash-Fleet as CONTRACTS describe it: reports, asks what to do, does it, says so. Standard library alone.

Prints one line of JSON for each answer: [what was asked, the status, the body]. Ends after the given number of rounds.
"""

import argparse
import http.client
import json
import os
import shutil
import time
import urllib.parse


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--machine", required=True)
    parser.add_argument("--source", default="127.0.0.1")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--interval", type=float, default=0.2)
    return parser.parse_args()


def ask(options, method, path, body=None):
    place = urllib.parse.urlsplit(options.url)
    connection = http.client.HTTPConnection(
        place.hostname, place.port, timeout=10, source_address=(options.source, 0)
    )
    headers = {"Authorization": "Bearer " + os.environ["FLEET_API_KEY"]}
    if body is not None:
        headers["Content-Type"] = "application/json"
        body = json.dumps(body)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    print(json.dumps([path.split("?")[0], response.status, answer]), flush=True)
    return response.status, answer


def figures():
    disk = shutil.disk_usage("/")
    gib = 1024**3
    return {
        "cpu_percent": min(100.0, 100.0 * os.getloadavg()[0] / (os.cpu_count() or 1)),
        "ram_percent": 41.5,
        "disk_percent": round(100.0 * disk.used / disk.total, 1),
        "disk_used_gib": round(disk.used / gib, 2),
        "disk_total_gib": round(disk.total / gib, 2),
        "uptime_seconds": int(time.monotonic()),
        "uptime_hms": time.strftime("%H:%M:%S", time.gmtime(time.monotonic())),
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }


def main():
    options = arguments()
    name = urllib.parse.quote(options.machine)
    for _ in range(options.rounds):
        ask(options, "POST", "/api/fleet/report", {"machine_id": options.machine, "report": figures()})
        status, answer = ask(options, "GET", "/api/actions/pending?machine_id=" + name)
        for action in answer.get("actions", []) if status == 200 else []:
            done = action["type"] == "message"
            said = "shown: " + action["data"]["message"] if done else "not allowed here"
            report = {"action_id": action["action_id"], "status": "done" if done else "error", "result": said}
            ask(options, "POST", "/api/actions/report", report)
        time.sleep(options.interval)


main()
