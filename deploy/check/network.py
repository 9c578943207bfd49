"""The network policies: everything is denied first, and the gateway has no way to PostgreSQL."""

from check.documents import of_kind, selects, workloads

# (protocol, port) that the gateway may open: names, and the bus, for itself and for agents that come through it.
GATEWAY = {("UDP", 53), ("TCP", 53), ("TCP", 4222), ("TCP", 4280)}
POSTGRES = ("TCP", 5432)
WITH_DATABASE = {"identity", "action", "metrics", "setup", "owner"}
EVERYTHING = ("every protocol", "every port")


def findings(documents):
    policies = [policy["spec"] for policy in of_kind(documents, "NetworkPolicy")]
    if {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} not in policies:
        yield "no policy denies everything first"
    found = list(workloads(documents))
    for workload in found:
        out = egress(policies, workload.labels)
        reaches = POSTGRES in out or EVERYTHING in out
        if workload.name == "gateway" and out != GATEWAY:
            yield f"the gateway may open {sorted(out, key=str)}, and should {sorted(GATEWAY, key=str)}"
        if reaches != (workload.name in WITH_DATABASE):
            yield f"{workload.kind} {workload.name}: {'may' if reaches else 'cannot'} reach PostgreSQL"
    for server in (workload for workload in found if workload.name == "postgres"):
        callers = {workload.name for workload in found if admitted(policies, server.labels, workload.labels)}
        if callers != WITH_DATABASE:
            yield f"PostgreSQL admits {sorted(callers)}, and should {sorted(WITH_DATABASE)}"


def egress(policies, labels):
    """What pods with these labels may open, wherever it is."""
    opened = set()
    for policy in policies:
        if "Egress" in policy["policyTypes"] and selects(policy["podSelector"], labels):
            for rule in policy.get("egress", []):
                ports = rule.get("ports")
                opened |= {(port["protocol"], port["port"]) for port in ports} if ports else {EVERYTHING}
    return opened


def admitted(policies, server, client):
    """Whether a policy lets pods labelled `client` in to pods labelled `server`, on any port."""
    for policy in policies:
        if "Ingress" in policy["policyTypes"] and selects(policy["podSelector"], server):
            for rule in policy.get("ingress", []):
                peers = rule.get("from", [{"podSelector": {}}])
                if any("podSelector" in peer and selects(peer["podSelector"], client) for peer in peers):
                    return True
    return False
