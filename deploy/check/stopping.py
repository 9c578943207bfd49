"""Whoever stops a process of ours waits for longer than it takes to end: killed before, it would leave work to others."""

from check import variables
from check.documents import containers, of_kind, workloads

# What a stop may take beyond the times that variables name, in seconds: services/libs/runtime/src/shutdown.rs has the sum
# (7.25 s for the gateway, less for all others).
BEYOND = 7.25
# What a process of ours reads, the second only a worker, and what they take where nobody says: the config.rs of libs/runtime and
# of the agent, and the worker's.
SHUTDOWN, DRAIN = "DASHFLEET_SHUTDOWN_MS", "DASHFLEET_WORKER_DRAIN_MS"
SHUTDOWN_DEFAULT, DRAIN_DEFAULT = "10000", "30000"
WORKER = "dashfleet-worker"


def judge(where, command, values, grace, before=0):
    """`grace`: how long a process is waited for in seconds, `before`: how long it is not yet told to end."""
    said = defaults(command) | values
    times = [int(said[name]) / 1000 for name in (SHUTDOWN, DRAIN) if name in said]
    longest = before + sum(times) + BEYOND
    if times and grace <= longest:
        yield f"{where}: is killed after {grace} s, and may take {longest} s to stop"


def defaults(command):
    """What a program of ours takes where its variables say nothing; nobody else has any."""
    program = variables.program(command)
    times = {SHUTDOWN: SHUTDOWN_DEFAULT} if program else {}
    return times | {DRAIN: DRAIN_DEFAULT} if program == WORKER else times


def findings(documents):
    """The lasting workloads of rendered manifests."""
    configs = {config["metadata"]["name"]: config.get("data", {}) for config in of_kind(documents, "ConfigMap")}
    for workload in workloads(documents):
        if workload.kind == "Job":
            continue
        grace = workload.pod.get("terminationGracePeriodSeconds", 30)
        for container in containers(workload.pod):
            where = f"{workload.kind} {workload.name}, container {container['name']}"
            before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            yield from judge(where, container.get("command", []), written(container, configs), grace, before)


def written(container, configs):
    """The variables of a container that are no secrets: an overlay may not have those."""
    values = {}
    for source in container.get("envFrom", []):
        values |= configs.get(source.get("configMapRef", {}).get("name"), {})
    return values | {entry["name"]: entry["value"] for entry in container.get("env", []) if "value" in entry}
