"""Runs every check, prints findings and times, and ends with 1 when there is a finding."""

import argparse
import pathlib
import sys
import tempfile
import time

from check import (
    broken,
    compose,
    dockerfile,
    keys,
    nats,
    network,
    pods,
    programs,
    references,
    render,
    schema,
    stopping,
    variables,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]


def arguments():
    parser = argparse.ArgumentParser(prog="deploy/check.sh")
    parser.add_argument("--built", action="store_true", help="fail when dashfleet-bootstrap is not there")
    parser.add_argument("--binaries", type=pathlib.Path, default=ROOT / "target/debug", metavar="DIR")
    return parser.parse_args()


class Run:
    """Prints one line for each check, and remembers whether all passed."""

    def __init__(self):
        self.failed = False

    def check(self, name, findings):
        """Runs a check: it is a generator of findings, which works while it is listed."""
        started = time.monotonic()
        found = list(findings)
        self.failed = self.failed or bool(found)
        verdict = "FAILED" if found else "ok"
        print(f"deploy: {verdict:6} {time.monotonic() - started:5.1f} s  {name}", flush=True)
        for finding in found:
            print(f"        {finding}", flush=True)


def main():
    options = arguments()
    bootstrap = options.binaries.resolve() / "dashfleet-bootstrap"
    run = Run()
    if not bootstrap.exists():
        print(f"deploy: {bootstrap} is not built: keys are simulated, what needs it is left out", flush=True)
        if options.built:
            run.check("dashfleet-bootstrap", [f"{bootstrap} is missing"])
        bootstrap = None

    run.check("Dockerfile", dockerfile.findings(ROOT))
    run.check("compose", compose.findings(ROOT))
    run.check("every variable that is named exists", variables.findings(ROOT))
    if bootstrap:
        run.check("deploy/nats/server.conf is as generated", nats.drift(ROOT, bootstrap))

    with tempfile.TemporaryDirectory(prefix="dashfleet-check-") as folder:
        copy = render.copy(ROOT, pathlib.Path(folder))
        run.check("keys of a trial", keys.make(copy, bootstrap))
        rendered = {}
        for name in ("k8s/base", "k8s/overlays/trial", "k8s/overlays/cluster"):
            run.check(f"{name}: renders", render.into(rendered, copy, name))
        for name, documents in rendered.items():
            run.check(f"{name}: schemas of Kubernetes {', '.join(schema.VERSIONS)}", schema.findings(documents))
            run.check(f"{name}: pods", pods.findings(documents))
            run.check(f"{name}: processes are waited for", stopping.findings(documents))
            run.check(f"{name}: network", network.findings(documents))
        for name in ("k8s/overlays/trial", "k8s/overlays/cluster"):
            if name in rendered:
                run.check(f"{name}: names that refer to each other", references.findings(rendered[name]))
                if bootstrap:
                    run.check(f"{name}: nats-server accepts its configuration", nats.accepted(rendered[name]))
        if "k8s/overlays/cluster" in rendered:
            run.check("cluster: servers ask each other for a password", nats.routes(rendered["k8s/overlays/cluster"]))
        trial = rendered.get("k8s/overlays/trial")
        if trial:
            if bootstrap:
                run.check("trial: services accept their variables", programs.findings(trial, bootstrap.parent))
            run.check("the checks find what is broken on purpose", broken.findings(trial))
    return 1 if run.failed else 0


sys.exit(main())
