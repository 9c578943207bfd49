"""Whoever stops a process of ours waits for longer than it takes to end: killed before, it would leave work to others."""

from check.documents import containers, of_kind, workloads

# What a stop may take beyond the times that variables name, in seconds: services/libs/runtime/src/shutdown.rs has the sum
# (7.25 s for the gateway, less for all others).
BEYOND = 7.25
# What a process reads; the second only a worker, whose default is longer than any grace period here.
SHUTDOWN, DRAIN = "DASHFLEET_SHUTDOWN_MS", "DASHFLEET_WORKER_DRAIN_MS"
WORKER = "dashfleet-worker"


def judge(where, command, values, grace, before=0):
    """`grace`: how long a process is waited for in seconds, `before`: how long it is not yet told to end."""
    if WORKER in command and DRAIN not in values:
        yield f"{where}: {DRAIN} must be set"
    times = [int(values[name]) / 1000 for name in (SHUTDOWN, DRAIN) if name in values]
    longest = before + sum(times) + BEYOND
    if times and grace <= longest:
        yield f"{where}: is killed after {grace} s, and may take {longest} s to stop"


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
