"""The compose file: it parses, names only what exists, and gives each container what it reads and no more."""

import re

import yaml

from check import stopping, variables
from check.pods import image

SERVICES = set(
    "keys database bus owner nats postgres identity action scheduler worker metrics gateway enroll agent".split()
)
OURS = "dashfleet"
# Volumes of keys, and who may see them.
KEYS = {
    "keys": {"keys", "nats"},
    "keys-action": {"keys", "action"},
    "keys-bootstrap": {"keys", "bus"},
    "keys-gateway": {"keys", "gateway"},
    "keys-identity": {"keys", "identity", "owner"},
    "keys-metrics": {"keys", "metrics"},
    "keys-postgres": {"keys", "database"},
    "keys-scheduler": {"keys", "scheduler"},
    "keys-worker": {"keys", "worker"},
}
WITH_POSTGRES = {"postgres", "database", "owner", "identity", "action", "scheduler", "metrics"}
# Who runs handlers sees nobody but the bus' server.
WITH_WORKER = {"nats", "worker"}
# What our scripts become, and the variables that they make.
SCRIPTS = {
    "keys.sh": (["dashfleet-bootstrap", "keys"], frozenset()),
    "enroll.sh": (["dashfleet-agent", "enroll"], frozenset()),
    "owner-of-data.sh": (None, variables.DATABASE),
}


def findings(root):
    folder = root / "deploy"
    file = yaml.safe_load((folder / "compose.yaml").read_text())
    services = file["services"]
    yield from (f"{name} is not a service that is known here" for name in sorted(set(services) - SERVICES))
    yield from (f"the service {name} is missing" for name in sorted(SERVICES - set(services)))
    for name, config in file.get("configs", {}).items():
        if not (folder / config["file"]).is_file():
            yield f"config {name}: deploy/{config['file']} does not exist"
    for name, service in services.items():
        yield from references(name, service, file)
        yield from rights(name, service)
        yield from environment(name, service)
        grace = float(str(service.get("stop_grace_period", "10s")).removesuffix("s"))
        if service.get("restart") != "no":
            command, _ = runs(service)
            yield from stopping.judge(name, command, service.get("environment", {}), grace)


def references(name, service, file):
    """Names that a service uses and the file does not declare."""
    declared = {kind: set(file.get(kind, {})) for kind in ("services", "networks", "configs", "volumes")}
    used = {
        "services": set(service.get("depends_on", {})),
        "networks": set(service.get("networks", [])),
        "configs": {config["source"] for config in service.get("configs", [])},
        "volumes": {mount.split(":")[0] for mount in service.get("volumes", []) if not mount.startswith("/")},
    }
    for kind, names in used.items():
        yield from (f"{name}: {missing} is not among {kind}" for missing in sorted(names - declared[kind]))
    scripts = {word.rpartition("/")[2] for word in service.get("command", []) if word.startswith("/etc/dashfleet/")}
    yield from (f"{name}: runs {script}, which is not mounted" for script in sorted(scripts - used["configs"]))


def rights(name, service):
    user = str(service.get("user", ""))
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user):
        yield f"{name}: must run as a user that is not root, by number"
    if service.get("read_only") is not True or service.get("cap_drop") != ["ALL"] or service.get("privileged"):
        yield f"{name}: must be read_only and drop all capabilities"
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield f"{name}: must have no-new-privileges"
    yield from image(name, service["image"])
    for mount in service.get("volumes", []):
        volume, _, target = mount.partition(":")
        if volume in KEYS and name not in KEYS[volume]:
            yield f"{name}: must not see {volume}"
        if volume in KEYS and name != "keys" and not target.endswith(":ro"):
            yield f"{name}: {volume} must be read-only"
    for port in service.get("ports", []):
        if not port.startswith("127.0.0.1:"):
            yield f"{name}: port {port} must be published on 127.0.0.1"
    if ("data" in service.get("networks", [])) != (name in WITH_POSTGRES):
        yield f"{name}: network `data` is for {sorted(WITH_POSTGRES)}"
    if ("work" in service.get("networks", [])) != (name in WITH_WORKER):
        yield f"{name}: network `work` is for {sorted(WITH_WORKER)}"
    if name == "worker" and service.get("networks") != ["work"]:
        yield f"{name}: must be in the network `work` alone"
    if "network_mode" not in service and "networks" not in service:
        yield f"{name}: must name its networks"


def runs(service):
    """The command line that a service becomes, and the variables that are made on the way."""
    command, made = list(service.get("command", [])), frozenset()
    script = command[1].rpartition("/")[2] if command[:1] == ["sh"] else None
    if script in SCRIPTS:
        becomes, made = SCRIPTS[script]
        command = becomes or [f"dashfleet-{command[2]}", *command[3:]]
    return command, made


def environment(name, service):
    command, made = runs(service)
    given = set(service.get("environment", {})) | made
    short = service["image"].partition(":")[0]
    yield from variables.judge(name, short, command if short == OURS else [], given, {})
    for variable, value in service.get("environment", {}).items():
        if re.search(r"PASSWORD|TOKEN|API_KEY|ADMIN_URL", variable) and "${" not in str(value):
            yield f"{name}: {variable} is written into the file"
