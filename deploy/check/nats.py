"""The NATS server's configuration: as generated, and one that the server takes from the trial's StatefulSet."""

import difflib
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from check.documents import REFERENCE, environment, of_kind, workloads

SECONDS = 60
# Of a difference that are shown.
LINES = 40
FILE = "deploy/nats/server.conf"


def drift(root, bootstrap):
    """The committed file against what the permission table makes today."""
    # The committed file is of the pool `default` alone.
    given = {name: value for name, value in os.environ.items() if name != "DASHFLEET_SCHEDULER_POOLS"}
    answer = subprocess.run(
        [bootstrap, "nats-config"], env=given, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if answer.returncode != 0:
        yield f"dashfleet-bootstrap nats-config: exit {answer.returncode}: {answer.stderr.strip()}"
        return
    path = root / FILE
    committed = path.read_text() if path.exists() else ""
    if committed != answer.stdout:
        yield f"{FILE} differs: dashfleet-bootstrap nats-config > {FILE}"
        before, after = committed.splitlines(), answer.stdout.splitlines()
        yield from list(difflib.unified_diff(before, after, "committed", "generated", lineterm=""))[:LINES]


def routes(documents):
    """The port of routes: who speaks there is in every account, so it asks for a password, which a Secret has."""
    server = next(workload for workload in workloads(documents) if workload.name == "nats")
    container = server.pod["containers"][0]
    arguments = dict(zip(container["args"], container["args"][1:]))
    sources = {entry["name"]: entry.get("valueFrom", {}) for entry in container.get("env", [])}
    for name in ("--cluster", "--routes"):
        for address in arguments.get(name, "").split(","):
            known = re.fullmatch(r"nats://[a-z]+:\$\(([A-Z_]+)\)@[a-z0-9.-]+:[0-9]+", address)
            if not known or "secretKeyRef" not in sources.get(known[1], {}):
                yield f"{name} {address!r} must be `nats://USER:$(VARIABLE)@HOST:PORT`, with a variable from a Secret"


def accepted(documents):
    """Starts nats-server's own test of the configuration with the variables and arguments of the rendered pod."""
    server = next(workload for workload in workloads(documents) if workload.name == "nats")
    container = server.pod["containers"][0]
    configs = {config["metadata"]["name"]: config["data"] for config in of_kind(documents, "ConfigMap")}
    given = environment(container, documents)
    mounted = next(volume["configMap"]["name"] for volume in server.pod["volumes"] if "configMap" in volume)
    with tempfile.TemporaryDirectory(prefix="dashfleet-nats-") as folder:
        for name, text in configs[mounted].items():
            (pathlib.Path(folder) / name).write_text(text)
        given["DASHFLEET_NATS_STORE"] = f"{folder}/data"
        args = [argument.replace("/etc/nats", folder) for argument in container["args"]]
        args = [REFERENCE.sub(lambda match: given.get(match[1], match[0]), argument) for argument in args]
        binary = pathlib.Path(sys.executable).parent / "nats-server"
        answer = subprocess.run(
            [binary, *args, "-t"], env=given, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    if answer.returncode != 0:
        yield f"nats-server {' '.join(container['args'])}: {(answer.stdout + answer.stderr).strip()}"
