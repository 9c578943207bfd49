"""Each service, asked by `--print-config` with the variables of its rendered pod: does it take them, and does
variables.py know what it reads?"""

import subprocess
import tempfile
from pathlib import Path

from check import variables
from check.documents import containers, environment, workloads

SECONDS = 20


def findings(documents, binaries):
    # A service reads its own seeds before it says what it would do: it gets throw-away ones.
    with tempfile.TemporaryDirectory() as keys:
        make = [binaries / "dashfleet-bootstrap", "keys", "--dir", keys]
        subprocess.run(make, capture_output=True, timeout=SECONDS, check=True)
        yield from findings_with(documents, binaries, Path(keys))


def findings_with(documents, binaries, keys):
    for workload in workloads(documents):
        for container in containers(workload.pod):
            command = container.get("command", [])
            name = variables.program(command)
            # Subcommands have no such flag: they do one thing and end.
            if name and len(command) == 1:
                given = environment(container, documents)
                if "DASHFLEET_KEYS" in given:
                    given["DASHFLEET_KEYS"] = str(keys / name.removeprefix("dashfleet-"))
                yield from asked(name, binaries / name, given)


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
