"""The network policies: everything is denied first, the gateway has no way to PostgreSQL, and a worker, whose handlers may
connect to the outside world, none to anything inside but names and the bus."""

from check.documents import of_kind, selects, workloads

# (protocol, port) that the gateway may open: names, and the bus, for itself and for agents that come through it.
GATEWAY = {("UDP", 53), ("TCP", 53), ("TCP", 4222), ("TCP", 4280)}
# What a worker may open besides names and the bus, and where it must not: private networks, and what is only said to be
# outside (metadata of clouds, addresses that stand for others).
WORLD = {("TCP", 80), ("TCP", 443)}
WORKER = {("UDP", 53), ("TCP", 53), ("TCP", 4222)} | WORLD
INSIDE = {
    "0.0.0.0/0": set(
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.168.0.0/16 "
        "198.18.0.0/15 224.0.0.0/3".split()
    ),
    "::/0": set("::/8 2001::/32 2002::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8".split()),
}
POSTGRES = ("TCP", 5432)
WITH_DATABASE = {"identity", "action", "scheduler", "metrics", "setup", "owner"}
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
        if workload.name == "worker":
            if out != WORKER:
                yield f"a worker may open {sorted(out, key=str)}, and should {sorted(WORKER, key=str)}"
            yield from inside(policies, workload.labels)
        if reaches != (workload.name in WITH_DATABASE):
            yield f"{workload.kind} {workload.name}: {'may' if reaches else 'cannot'} reach PostgreSQL"
    for server in (workload for workload in found if workload.name == "postgres"):
        callers = {workload.name for workload in found if admitted(policies, server.labels, workload.labels)}
        if callers != WITH_DATABASE:
            yield f"PostgreSQL admits {sorted(callers)}, and should {sorted(WITH_DATABASE)}"


def inside(policies, labels):
    """What of the inside is open to pods that may open the world: they name networks, without those that are inside."""
    for policy in policies:
        if "Egress" not in policy["policyTypes"] or not selects(policy["podSelector"], labels):
            continue
        for rule in policy.get("egress", []):
            if not WORLD & {(port["protocol"], port["port"]) for port in rule.get("ports", [])}:
                continue
            for peer in rule.get("to", [{}]):
                block = peer.get("ipBlock", {})
                wanted = INSIDE.get(block.get("cidr"))
                if wanted is None:
                    yield f"a worker may connect to {peer or 'everywhere'}, which is not the outside world"
                else:
                    left = wanted - set(block.get("except", []))
                    yield from (f"a worker may connect to {network}" for network in sorted(left))


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
