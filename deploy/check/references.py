"""Names in the rendered trial that refer to something: it must be there, with the keys that are asked for."""

from check.documents import containers, of_kind, selects, workloads


def findings(documents):
    kept = {
        kind: {document["metadata"]["name"]: set(document.get("data", {})) for document in of_kind(documents, kind)}
        for kind in ("ConfigMap", "Secret")
    }
    used = set()
    found = list(workloads(documents))
    for workload in found:
        for kind, name, key in referred(workload.pod):
            used.add((kind, name))
            if name not in kept[kind]:
                yield f"{workload.kind} {workload.name}: there is no {kind} {name}"
            elif key and key not in kept[kind][name]:
                yield f"{workload.kind} {workload.name}: {kind} {name} has no {key}"
    for kind, names in kept.items():
        yield from (f"nothing uses the {kind} {name}" for name in sorted(names) if (kind, name) not in used)
    for service in of_kind(documents, "Service"):
        yield from behind(service, found)


def referred(pod):
    """(kind, name, key or None) of every ConfigMap and Secret that a pod names."""
    for volume in pod.get("volumes", []):
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"], None
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"], None
    for container in containers(pod):
        for entry in container.get("envFrom", []):
            for field, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
                if field in entry:
                    yield kind, entry[field]["name"], None
        for entry in container.get("env", []):
            source = entry.get("valueFrom", {})
            for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                if field in source:
                    yield kind, source[field]["name"], source[field]["key"]


def behind(service, found):
    """What a Service must have behind it: pods, with ports of the names it forwards to."""
    name = service["metadata"]["name"]
    chosen = [workload for workload in found if selects({"matchLabels": service["spec"]["selector"]}, workload.labels)]
    if len(chosen) != 1:
        yield f"Service {name} selects {[workload.name for workload in chosen]}"
        return
    ports = {port["name"] for container in chosen[0].pod["containers"] for port in container.get("ports", [])}
    for port in service["spec"]["ports"]:
        if port["targetPort"] not in ports:
            yield f"Service {name}: {chosen[0].name} has no port {port['targetPort']!r}"
