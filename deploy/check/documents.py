"""Finding one's way in rendered manifests."""

import base64
import collections
import re

REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")

Workload = collections.namedtuple("Workload", "kind name document pod labels")


def of_kind(documents, kind):
    """The documents of a kind."""
    return [document for document in documents if document["kind"] == kind]


def workloads(documents):
    """Everything that makes pods."""
    for document in documents:
        template = document.get("spec", {}).get("template")
        if isinstance(template, dict):
            labels = template["metadata"].get("labels", {})
            yield Workload(document["kind"], document["metadata"]["name"], document, template["spec"], labels)


def containers(pod):
    """The containers of a pod, those that run first included."""
    return pod.get("initContainers", []) + pod["containers"]


def selects(selector, labels):
    """Whether a label selector matches these labels."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions", []):
        has = rule["key"] in labels
        among = labels.get(rule["key"]) in rule.get("values", [])
        if not {"In": has and among, "NotIn": not among, "Exists": has, "DoesNotExist": not has}[rule["operator"]]:
            return False
    return True


def environment(container, documents):
    """The variables that Kubernetes gives to a container, from the rendered ConfigMaps and Secrets."""
    data = {}
    for config in of_kind(documents, "ConfigMap"):
        data["ConfigMap", config["metadata"]["name"]] = config.get("data", {})
    for secret in of_kind(documents, "Secret"):
        plain = {key: base64.b64decode(value).decode() for key, value in secret.get("data", {}).items()}
        data["Secret", secret["metadata"]["name"]] = plain
    given = {}
    for entry in container.get("envFrom", []):
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if field in entry:
                given.update(data[kind, entry[field]["name"]])
    for entry in container.get("env", []):
        source = entry.get("valueFrom", {})
        if "secretKeyRef" in source:
            value = data["Secret", source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]]
        elif "fieldRef" in source:
            value = source["fieldRef"]["fieldPath"].replace(".", "-")
        else:
            value = REFERENCE.sub(lambda match: given.get(match[1], match[0]), entry.get("value", ""))
        given[entry["name"]] = value
    return given
