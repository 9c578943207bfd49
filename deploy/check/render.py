"""Renders kustomizations, from a copy of the tree: a trial's keys have no place in the clone."""

import pathlib
import shutil
import subprocess

import yaml

SECONDS = 60


def copy(root, folder):
    """Copies what kustomize reads; whatever keys the clone has stay behind."""
    shutil.copytree(
        root / "k8s",
        folder / "k8s",
        ignore=lambda at, names: [name for name in names if pathlib.Path(at).name == "keys" and name != "README.md"],
    )
    shutil.copytree(root / "deploy/nats", folder / "deploy/nats")
    return folder


def into(rendered, folder, name):
    """Puts the documents of kustomization `name` into `rendered`, or says why it cannot."""
    if not shutil.which("kubectl"):
        yield "kubectl is missing: install one of version 1.27 or newer, it renders k8s/ by `kubectl kustomize`"
        return
    answer = subprocess.run(
        ["kubectl", "kustomize", name], cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if answer.returncode != 0:
        yield f"kubectl kustomize {name}: {answer.stderr.strip()}"
        return
    if answer.stderr.strip():
        yield f"kubectl kustomize {name} warns: {answer.stderr.strip()}"
    rendered[name] = [document for document in yaml.safe_load_all(answer.stdout) if document]
