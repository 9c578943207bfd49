"""Which variables our programs read. Whoever adds one to a program adds it here; nothing may name another."""

import collections
import pathlib
import re

from check.documents import REFERENCE

Reads = collections.namedtuple("Reads", "needs may")


def names(text):
    return frozenset(f"DASHFLEET_{name}" for name in text.split())


LOG = names("LOG LOG_FORMAT") | {"OTEL_EXPORTER_OTLP_ENDPOINT"}
SERVICE = LOG | names("NATS_URLS NATS_CA KEYS ADMIN_ADDR SHUTDOWN_MS")
DATABASE = names("DATABASE_URL DATABASE_SYSTEM_URL")
OWNER = SERVICE | names("DATABASE_CONNECTIONS")
BUS = names("NATS_URLS KEYS")
AGENT = LOG | names("AGENT_STATE AGENT_POLICY AGENT_REBOOT AGENT_SAMPLE_MS AGENT_MACHINE_ID AGENT_ADMIN_ADDR")

# By program and subcommand: what it cannot do without, and what it reads besides.
PROGRAMS = {
    "dashfleet-gateway": Reads(
        BUS,
        SERVICE
        | names("HTTP_ADDR TRUSTED_PROXIES CORS_ORIGINS FAILED_AUTHENTICATIONS_PER_MINUTE LOGINS_PER_MINUTE")
        | names("REQUESTS_PER_SECOND WRITES_PER_SECOND HEAVY_REQUESTS_PER_SECOND USER_REQUESTS_PER_SECOND")
        | names("ADDRESS_REQUESTS_PER_SECOND OPEN_REQUESTS_PER_SECOND")
        | names("PUBLIC_URL AGENT_BINARIES NATS_WEBSOCKET_URLS")
        | names("NATS_TUNNELS NATS_TUNNELS_PER_ADDRESS NATS_TUNNELS_PER_SECOND"),
    ),
    "dashfleet-identity": Reads(
        BUS | DATABASE | names("AGENT_NATS_URLS"),
        OWNER | names("AGENT_NATS_CA PUBLIC_URL SMTP_URL SMTP_FROM AUDIT_RETENTION_DAYS"),
    ),
    "dashfleet-identity password-reset": Reads(DATABASE, OWNER | names("PUBLIC_URL")),
    "dashfleet-identity platform-admin": Reads(DATABASE, OWNER | names("PUBLIC_URL")),
    "dashfleet-identity bootstrap": Reads(
        DATABASE | names("BOOTSTRAP_ADMIN_EMAIL BOOTSTRAP_ADMIN_PASSWORD"),
        OWNER
        | names("BOOTSTRAP_ORGANIZATION BOOTSTRAP_API_KEY BOOTSTRAP_ENROLLMENT_TOKEN")
        | names("BOOTSTRAP_LEGACY_API_KEY BOOTSTRAP_LEGACY_NETWORKS"),
    ),
    "dashfleet-action": Reads(BUS | DATABASE, OWNER | names("AUDIT_RETENTION_DAYS")),
    "dashfleet-scheduler": Reads(BUS | DATABASE, OWNER | names("SCHEDULER_POOLS EXECUTION_RETENTION_DAYS")),
    "dashfleet-worker": Reads(
        BUS,
        SERVICE
        | names("WORKER_POOL WORKER_NAME WORKER_CONCURRENCY WORKER_DRAIN_MS WORKER_WITNESS")
        | names("EGRESS_ALLOW EGRESS_NEVER EGRESS_CA"),
    ),
    "dashfleet-metrics": Reads(BUS | DATABASE, OWNER),
    "dashfleet-bootstrap keys": Reads(frozenset(), SERVICE | names("SCHEDULER_POOLS")),
    "dashfleet-bootstrap database": Reads(names("DATABASE_ADMIN_URL"), SERVICE),
    "dashfleet-bootstrap migrate": Reads(names("DATABASE_OWNER_URL"), SERVICE),
    "dashfleet-bootstrap bus": Reads(BUS, SERVICE | names("NATS_REPLICAS SCHEDULER_POOLS")),
    "dashfleet-bootstrap nats-config": Reads(frozenset(), names("SCHEDULER_POOLS")),
    "dashfleet-agent enroll": Reads(frozenset(), AGENT | names("ENROLLMENT_TOKEN")),
    "dashfleet-agent run": Reads(frozenset(), AGENT),
}

# What deploy/nats/server.conf asks for, besides the public keys.
NATS = names("NATS_NAME NATS_PORT NATS_WEBSOCKET_PORT NATS_STORE")
NATS_KEYS = re.compile(r"DASHFLEET_(NKEY|CALLOUT)_[A-Z0-9_]+")

# What other people's images read.
FOREIGN = {
    "nats": frozenset(("GOMEMLIMIT", "NATS_ROUTES_PASSWORD")),
    "postgres": frozenset(("POSTGRES_PASSWORD", "PGDATA")),
}

SETTING = re.compile(r"DASHFLEET_[A-Z][A-Z0-9_]*[A-Z0-9]")


def program(command):
    """The program of a command line, with its subcommand if it has any: a key of PROGRAMS, or None."""
    words = [pathlib.PurePosixPath(word).name for word in command[:1]] + list(command[1:2])
    for candidate in (" ".join(words), words[0] if words else ""):
        if candidate in PROGRAMS:
            return candidate
    return None


def promised(command):
    """What a Secret that is not rendered here must bring: what the program cannot do without."""
    name = program(command)
    return PROGRAMS[name].needs if name else frozenset()


def judge(where, image, command, given, values):
    """Yields what is wrong with the variables `given` to a container. `values` are those with a literal value."""
    name = program(command)
    if name:
        reads = PROGRAMS[name]
        # Parts of a URL are no settings of ours: they must serve to compose one.
        parts = {part for value in values.values() for part in REFERENCE.findall(value)}
        yield from (f"{where}: {name} needs {missing}" for missing in sorted(reads.needs - given))
        extra = given - reads.needs - reads.may - parts
        yield from (f"{where}: {name} does not read {variable}" for variable in sorted(extra))
    elif image in FOREIGN:
        allowed = FOREIGN[image] | (NATS if image == "nats" else frozenset())
        extra = {variable for variable in given - allowed if not (image == "nats" and NATS_KEYS.fullmatch(variable))}
        yield from (f"{where}: {image} does not read {variable}" for variable in sorted(extra))
        if image == "nats":
            yield from (f"{where}: server.conf needs {missing}" for missing in sorted(NATS - given))
    else:
        yield f"{where}: {' '.join(command) or image} is no program that is known here"


def texts(root):
    """The files in which a setting's name may stand; a trial's keys are not ours to read."""
    for folder in ("k8s", "deploy/compose", "deploy/nats"):
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and ("keys" not in path.parent.parts or path.name == "README.md"):
                yield path
    yield from (root / "deploy" / name for name in ("Dockerfile", "compose.yaml", "README.md"))


def findings(root):
    """Names of settings, anywhere in the files, that nothing reads."""
    known = NATS.union(*(reads.needs | reads.may for reads in PROGRAMS.values()))
    for path in texts(root):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for name in SETTING.findall(line):
                if name not in known and not NATS_KEYS.fullmatch(name):
                    yield f"{path.relative_to(root)}:{number}: nothing reads {name}"
