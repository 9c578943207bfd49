"""Every pod: the least rights, bounded resources, probes, and variables that its program reads."""

from check import variables
from check.documents import REFERENCE, containers, of_kind, selects, workloads

LASTING = ("Deployment", "StatefulSet", "DaemonSet")

# Which Secrets a pod may see; "its own" is the point, so the list is by hand.
SECRETS = {
    "gateway": {"gateway-keys"},
    "identity": {"identity-keys", "identity-database"},
    "action": {"action-keys", "action-database"},
    "scheduler": {"scheduler-keys", "scheduler-database"},
    "worker": {"worker-keys"},
    "metrics": {"metrics-keys", "metrics-database"},
    "setup": {"bootstrap-keys", "owner-database", "database-roles", "postgres-admin"},
    "owner": {"owner", "identity-database"},
    "nats": {"nats-routes"},
    "postgres": {"postgres-admin"},
}


def findings(documents):
    accounts = {account["metadata"]["name"] for account in of_kind(documents, "ServiceAccount")}
    configs = {config["metadata"]["name"]: config.get("data", {}) for config in of_kind(documents, "ConfigMap")}
    secrets = {secret["metadata"]["name"]: secret.get("data", {}) for secret in of_kind(documents, "Secret")}
    found = list(workloads(documents))
    wanted = {"gateway", "identity", "action", "scheduler", "worker", "metrics", "setup", "owner"}
    for missing in sorted(wanted - {w.name for w in found}):
        yield f"there is no workload {missing}"
    for workload in found:
        where = f"{workload.kind} {workload.name}"
        yield from pod_rights(where, workload.pod, accounts)
        yield from lasting(where, workload, documents)
        yield from seen_secrets(where, workload)
        for container in containers(workload.pod):
            place = f"{where}, container {container['name']}"
            yield from container_rights(place, container)
            if workload.kind in LASTING:
                yield from probes(place, container)
            yield from environment(place, container, configs, secrets)


def pod_rights(where, pod, accounts):
    if pod.get("automountServiceAccountToken") is not False:
        yield f"{where}: automountServiceAccountToken must be false"
    if pod.get("enableServiceLinks") is not False:
        yield f"{where}: enableServiceLinks must be false, else Services make variables of their own"
    if pod.get("serviceAccountName") not in accounts:
        yield f"{where}: needs a ServiceAccount of its own"
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        yield f"{where}: must run as a user that is not root"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield f"{where}: seccompProfile must be RuntimeDefault"
    for share in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(share):
            yield f"{where}: {share} is not for us"
    for volume in pod.get("volumes", []):
        if not {"secret", "configMap", "emptyDir", "projected"} & set(volume):
            yield f"{where}: volume {volume['name']} is of a kind that pods here do not have"
        if "secret" in volume and volume["secret"].get("defaultMode", 0o644) & 0o337:
            yield f"{where}: volume {volume['name']} must have defaultMode 0440 or less"


def lasting(where, workload, documents):
    spec = workload.document["spec"]
    if workload.kind == "Job" and not (spec.get("backoffLimit") and spec.get("activeDeadlineSeconds")):
        yield f"{where}: a Job needs backoffLimit and activeDeadlineSeconds"
    if workload.kind in LASTING and not workload.pod.get("terminationGracePeriodSeconds"):
        yield f"{where}: terminationGracePeriodSeconds must be set"
    if workload.kind == "Deployment":
        if spec.get("replicas", 1) < 2:
            yield f"{where}: needs two replicas"
        if not workload.pod.get("topologySpreadConstraints"):
            yield f"{where}: its replicas must spread over nodes"
        budgets = of_kind(documents, "PodDisruptionBudget")
        if not any(selects(budget["spec"]["selector"], workload.labels) for budget in budgets):
            yield f"{where}: no PodDisruptionBudget selects it"


def seen_secrets(where, workload):
    """Secrets that the pod names and may not see. Generated names end in a hash."""
    allowed = SECRETS.get(workload.name, set())
    seen = {volume["secret"]["secretName"] for volume in workload.pod.get("volumes", []) if "secret" in volume}
    for container in containers(workload.pod):
        seen |= {entry["secretRef"]["name"] for entry in container.get("envFrom", []) if "secretRef" in entry}
        sources = [entry.get("valueFrom", {}) for entry in container.get("env", [])]
        seen |= {source["secretKeyRef"]["name"] for source in sources if "secretKeyRef" in source}
    for name in sorted(seen):
        if name not in allowed and name.rpartition("-")[0] not in allowed:
            yield f"{where}: must not see the Secret {name}"


def container_rights(place, container):
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        yield f"{place}: allowPrivilegeEscalation must be false"
    if context.get("readOnlyRootFilesystem") is not True:
        yield f"{place}: readOnlyRootFilesystem must be true"
    capabilities = context.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
        yield f"{place}: must drop ALL capabilities and add none"
    if context.get("runAsUser") == 0 or context.get("runAsNonRoot") is False:
        yield f"{place}: must not be root"
    for bound in ("requests", "limits"):
        for resource in ("cpu", "memory"):
            if resource not in container.get("resources", {}).get(bound, {}):
                yield f"{place}: resources.{bound}.{resource} is missing"
    yield from image(place, container.get("image", ""))
    for mount in container.get("volumeMounts", []):
        if mount["mountPath"].startswith("/keys") and not mount.get("readOnly"):
            yield f"{place}: {mount['mountPath']} must be read-only"


def image(place, name):
    """An image is a short name with a version: which registry it comes from is the installation's affair."""
    short, _, tag = name.partition(":")
    if not tag or tag == "latest" or "/" in short:
        yield f"{place}: image {name!r} must be a short name with a version"


def probes(place, container):
    ports = {port.get("name") for port in container.get("ports", [])}
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container.get(kind)
        if not probe:
            yield f"{place}: {kind} is missing"
            continue
        request = probe.get("httpGet")
        if request and request["port"] not in ports:
            yield f"{place}: {kind} asks port {request['port']!r}, which the container does not have"
        if variables.program(container.get("command", [])):
            path = "/readyz" if kind == "readinessProbe" else "/healthz"
            if not request or (request["path"], request["port"]) != (path, "admin"):
                yield f"{place}: {kind} must ask {path} on port admin"


def environment(place, container, configs, secrets):
    """The variables of a container in the order in which Kubernetes makes them."""
    command = container.get("command", [])
    given, values = set(), {}
    for entry in container.get("envFrom", []):
        if "configMapRef" in entry:
            values.update(configs.get(entry["configMapRef"]["name"], {}))
        given |= set(values)
        if "secretRef" in entry:
            name = entry["secretRef"]["name"]
            # The base has no Secrets: an overlay brings them, and is checked in turn.
            given |= set(secrets[name]) if name in secrets else variables.promised(command)
    for entry in container.get("env", []):
        value = entry.get("value", "")
        for part in REFERENCE.findall(value):
            if part not in given:
                yield f"{place}: {entry['name']} is made of $({part}), which is not defined before it"
        given.add(entry["name"])
        values[entry["name"]] = value
    yield from variables.judge(place, container.get("image", "").partition(":")[0], command, given, values)
    addresses = [values.get(name) for name in ("DASHFLEET_ADMIN_ADDR", "DASHFLEET_HTTP_ADDR")]
    listening = sorted(int(address.rpartition(":")[2]) for address in addresses if address)
    declared = sorted(port["containerPort"] for port in container.get("ports", []))
    if listening and listening != declared:
        yield f"{place}: listens on {listening}, declares {declared}"
