"""The Dockerfile: hadolint, and every program of the workspace in the image."""

import pathlib
import re
import subprocess
import sys

SECONDS = 60
# Run on developers' machines only.
ELSEWHERE = {"xtask"}
BINARY = re.compile(r'^\[\[bin\]\]\s*\nname = "([^"]+)"', re.MULTILINE)


def findings(root):
    hadolint = pathlib.Path(sys.executable).parent / "hadolint"
    answer = subprocess.run(
        [hadolint, "deploy/Dockerfile"], cwd=root, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    yield from answer.stdout.splitlines()
    if answer.returncode != 0 and not answer.stdout:
        yield f"hadolint: exit {answer.returncode}: {answer.stderr.strip()}"

    text = (root / "deploy/Dockerfile").read_text()
    installed = set(re.findall(r"target/release/([a-z-]+)", text))
    manifests = [path for folder in ("agent", "deploy", "services") for path in (root / folder).rglob("Cargo.toml")]
    made = {name for path in manifests for name in BINARY.findall(path.read_text())} - ELSEWHERE
    yield from (f"the image lacks {name}" for name in sorted(made - installed))
    yield from (f"the image wants {name}, which no crate makes" for name in sorted(installed - made))

    channel = re.search(r'^channel = "([^"]+)"', (root / "rust-toolchain.toml").read_text(), re.MULTILINE).group(1)
    if f"FROM rust:{channel}-" not in text or f"RUSTUP_TOOLCHAIN={channel}" not in text:
        yield f"the builder is not Rust {channel} of rust-toolchain.toml"
    for name in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        if "/" in name or ":" not in name:
            yield f"image {name!r} must be a short name with a version"
    users = re.findall(r"^USER (\S+)", text, re.MULTILINE)
    if not users or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]):
        yield "the image must end as a user that is not root, by number"
