"""Each service, asked by `--print-config` with the variables of its rendered pod: does it take them, and does
variables.py know what it reads?"""

import subprocess

from check import variables
from check.documents import containers, environment, workloads

SECONDS = 20


def findings(documents, binaries):
    for workload in workloads(documents):
        for container in containers(workload.pod):
            command = container.get("command", [])
            name = variables.program(command)
            # Subcommands have no such flag: they do one thing and end.
            if name and len(command) == 1:
                yield from asked(name, binaries / name, environment(container, documents))


def asked(name, binary, given):
    if not binary.exists():
        yield f"{binary} is not built"
        return
    answer = subprocess.run(
        [binary, "--print-config"], env=given, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if answer.returncode != 0:
        yield f"{name} --print-config, with the variables of its pod: {answer.stderr.strip()}"
    reads = {line.partition("=")[0] for line in answer.stdout.splitlines() if "=" in line}
    said = variables.PROGRAMS[name].needs | variables.PROGRAMS[name].may
    yield from (f"{name} reads {variable}: check/variables.py lacks it" for variable in sorted(reads - said))
    yield from (f"{name} does not read {variable}: check/variables.py says so" for variable in sorted(said - reads))
