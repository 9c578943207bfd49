"""Throw-away keys for rendering the trial: real ones when `dashfleet-bootstrap` is built."""

import re
import secrets
import subprocess

import yaml

TRIAL = "k8s/overlays/trial"
CLUSTER = "k8s/overlays/cluster"
SECONDS = 60

# What a person makes, as the overlay's keys/README.md says.
BY_HAND = {
    (TRIAL, "keys/postgres.env"): ("POSTGRES_PASSWORD",),
    (TRIAL, "keys/owner.env"): (
        "DASHFLEET_BOOTSTRAP_ORGANIZATION",
        "DASHFLEET_BOOTSTRAP_ADMIN_EMAIL",
        "DASHFLEET_BOOTSTRAP_ADMIN_PASSWORD",
        "DASHFLEET_BOOTSTRAP_API_KEY",
        "DASHFLEET_BOOTSTRAP_ENROLLMENT_TOKEN",
    ),
    (CLUSTER, "keys/routes.env"): ("NATS_ROUTES_PASSWORD",),
}


def wanted(trial):
    """The files under keys/ that the kustomization reads."""
    kustomization = yaml.safe_load((trial / "kustomization.yaml").read_text())
    for generator in kustomization["secretGenerator"] + kustomization["configMapGenerator"]:
        for entry in generator.get("files", []) + generator.get("envs", []):
            path = entry.split("=", 1)[-1]
            if path.startswith("keys/"):
                yield path


def make(copy, bootstrap):
    """Makes the keys in the copy; yields what the kustomization wants and nothing makes."""
    trial = copy / TRIAL
    if bootstrap:
        answer = subprocess.run(
            [bootstrap, "keys", "--dir", trial / "keys"], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        if answer.returncode != 0:
            yield f"dashfleet-bootstrap keys: exit {answer.returncode}: {answer.stderr.strip()}"
    for (overlay, path), names in BY_HAND.items():
        explained = (copy / overlay / "keys/README.md").read_text()
        (copy / overlay / path).write_text("".join(f"{name}={secrets.token_hex(24)}\n" for name in names))
        for name in names:
            if f"{name}=" not in explained:
                yield f"{overlay}/keys/README.md does not say how {name} is made"
    for path in sorted(set(wanted(trial))):
        file = trial / path
        if not bootstrap and not file.exists():
            simulate(copy, file)
        if not file.exists():
            yield f"{TRIAL} wants {path}, which dashfleet-bootstrap keys does not make"
        elif file.suffix == ".password" and not re.fullmatch(r"[0-9a-f]{32,}", file.read_text()):
            yield f"{path} must be hexadecimal digits alone, without a line's end: it becomes part of a URL"


def simulate(copy, file):
    """Writes a file that looks like a key."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.name == "nats.env":
        config = copy / "deploy/nats/server.conf"
        text = config.read_text() if config.exists() else ""
        names = sorted(set(re.findall(r"\$(DASHFLEET_(?:NKEY|CALLOUT)_[A-Z0-9_]+)", text)))
        file.write_text("".join(f"{name}=U{secrets.token_hex(20).upper()}\n" for name in names))
    else:
        file.write_text(secrets.token_hex(24))
