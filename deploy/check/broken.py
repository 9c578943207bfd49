"""Breaks the rendered trial on purpose, one thing at a time: a check that finds nothing then proves nothing."""

import copy

from check import network, pods, references, schema, stopping
from check.documents import of_kind, workloads


def workload(documents, name):
    return next(found for found in workloads(documents) if found.name == name)


def container(documents, name):
    return workload(documents, name).pod["containers"][0]


def policy(documents, name):
    return next(found for found in of_kind(documents, "NetworkPolicy") if found["metadata"]["name"] == name)["spec"]


def without(documents, kind, name):
    """Removes a document. Generated names end in a hash."""
    documents[:] = [
        found for found in documents if found["kind"] != kind or not found["metadata"]["name"].startswith(name)
    ]


def grace(documents, name, seconds):
    workload(documents, name).pod["terminationGracePeriodSeconds"] = seconds


def without_variable(documents, name, variable):
    found = container(documents, name)
    found["env"] = [entry for entry in found["env"] if entry["name"] != variable]


def without_shutdown(documents, name):
    """A grace period that is too short for the time that is taken where nobody says."""
    for config in of_kind(documents, "ConfigMap"):
        config.get("data", {}).pop(stopping.SHUTDOWN, None)
    grace(documents, name, 15)


def probe_of_nowhere(documents):
    container(documents, "nats")["readinessProbe"]["httpGet"].update(port="nowhere")


def secret_of_another(documents):
    secret = {"secretName": "action-keys", "defaultMode": 0o440}
    workload(documents, "gateway").pod["volumes"].append({"name": "x", "secret": secret})


def gateway_out(documents):
    policy(documents, "to-postgres")["podSelector"]["matchExpressions"][0]["values"].append("gateway")


def worker_inside(documents):
    policy(documents, "worker-to-world")["egress"][0]["to"][0]["ipBlock"]["except"].remove("169.254.0.0/16")


def worker_anywhere(documents):
    policy(documents, "worker-to-world")["egress"][0].pop("to")


def worker_out(documents):
    policy(documents, "to-postgres")["podSelector"]["matchExpressions"][0]["values"].append("worker")


def gateway_in(documents):
    peer = policy(documents, "from-owners")["ingress"][0]["from"][0]
    peer["podSelector"]["matchExpressions"][0]["values"].append("gateway")


def variable(documents, name, value):
    container(documents, "metrics")["env"].append({"name": name, "value": value})


# What is broken, the check that must see it, words of its finding, and how it is broken.
BREAKS = (
    ("an unknown field", schema, "nonsense", lambda d: workload(d, "action").pod.update(nonsense=1)),
    ("a wrong type", schema, "replicas", lambda d: workload(d, "action").document["spec"].update(replicas="two")),
    ("root", pods, "not root", lambda d: workload(d, "gateway").pod["securityContext"].pop("runAsNonRoot")),
    ("a writable image", pods, "readOnlyRoot", lambda d: container(d, "identity")["securityContext"].clear()),
    ("no memory limit", pods, "limits.memory", lambda d: container(d, "nats")["resources"]["limits"].pop("memory")),
    ("no liveness", pods, "livenessProbe", lambda d: container(d, "postgres").pop("livenessProbe")),
    ("a probe of nowhere", pods, "asks port", probe_of_nowhere),
    ("a floating image", pods, "short name", lambda d: container(d, "nats").update(image="nats")),
    ("an image with a host", pods, "short name", lambda d: container(d, "nats").update(image="example.org/nats:2")),
    ("another's Secret", pods, "must not see", secret_of_another),
    ("an unknown variable", pods, "does not read", lambda d: variable(d, "DASHFLEET_TYPO", "1")),
    ("a variable made of nothing", pods, "not defined", lambda d: variable(d, "DASHFLEET_LOG", "$(NONE)")),
    ("a missing variable", pods, "needs DASHFLEET_DATABASE_URL", lambda d: container(d, "action")["env"].clear()),
    ("one replica", pods, "two replicas", lambda d: workload(d, "action").document["spec"].update(replicas=1)),
    ("no disruption budget", pods, "PodDisruptionBudget", lambda d: without(d, "PodDisruptionBudget", "identity")),
    ("a short wait for a worker", stopping, "worker", lambda d: grace(d, "worker", 30)),
    ("a short wait after a pause", stopping, "gateway", lambda d: grace(d, "gateway", 20)),
    ("a worker's drain by default", stopping, "worker", lambda d: without_variable(d, "worker", stopping.DRAIN)),
    ("a stop by default", stopping, "identity", lambda d: without_shutdown(d, "identity")),
    ("a missing service", pods, "no workload metrics", lambda d: without(d, "Deployment", "metrics")),
    ("no default", network, "denies everything", lambda d: without(d, "NetworkPolicy", "default-deny")),
    ("the gateway out to PostgreSQL", network, "the gateway may open", gateway_out),
    ("the gateway in at PostgreSQL", network, "PostgreSQL admits", gateway_in),
    ("a worker out to PostgreSQL", network, "a worker may open", worker_out),
    ("a worker out to metadata", network, "connect to 169.254.0.0/16", worker_inside),
    ("a worker out to anywhere", network, "not the outside world", worker_anywhere),
    ("a missing Secret", references, "no Secret", lambda d: without(d, "Secret", "gateway-keys")),
    ("a Service of nobody", references, "selects []", lambda d: workload(d, "gateway").labels.clear()),
)


def findings(documents):
    for what, check, words, destroy in BREAKS:
        damaged = copy.deepcopy(documents)
        destroy(damaged)
        if not any(words in finding for finding in check.findings(damaged)):
            yield f"{what}: {check.__name__} does not find it"
