#!/usr/bin/env bash
# Runs the install script in a clean Debian and looks whether it leaves a running, enrolled agent; then uninstalls it and
# looks whether anything is left. Needs a running product (`cargo xtask up --detach`), root and `debootstrap`. Where it
# cannot run it says so and why, and ends with code 77.
#
#   deploy/check/chroot.sh [--data DIR] [--binaries DIR] [--suite SUITE] [--mirror URL]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

data=.dashfleet
binaries=target/debug
suite=bookworm
mirror=http://deb.debian.org/debian
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || { echo "chroot.sh: $1 needs a value" >&2; exit 64; }
    case $1 in
        --data) data=$2 ;;
        --binaries) binaries=$2 ;;
        --suite) suite=$2 ;;
        --mirror) mirror=$2 ;;
        *) echo "chroot.sh: $1 is not known" >&2; exit 64 ;;
    esac
    shift 2
done

cannot() {
    echo "NOT RUN: $1" >&2
    exit 77
}
fail() {
    echo "FAILED: $1" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || cannot "a chroot needs root"
command -v debootstrap >/dev/null || cannot "debootstrap is missing: install the package debootstrap"
command -v python3 >/dev/null || cannot "python3 is missing"
[ -f "$data/dev.json" ] || cannot "$data/dev.json is missing: start the product with cargo xtask up --detach"
[ -x "$binaries/dashfleet-agent" ] || cannot "$binaries/dashfleet-agent is missing: cargo build --workspace"

dev() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$data/dev.json" "$1"; }
url=$(dev url)
token=$(dev enrollmentToken)
key=$(dev apiKey)

root=$(mktemp -d /var/tmp/dashfleet-chroot.XXXXXX)
agent=
cleanup() {
    if [ -n "$agent" ]; then kill "$agent" 2>/dev/null || true; wait "$agent" 2>/dev/null || true; fi
    umount "$root/proc" 2>/dev/null || true
    rm -rf --one-file-system "$root"
}
trap cleanup EXIT

echo "== a clean $suite in $root"
debootstrap --variant=minbase --include=curl,ca-certificates "$suite" "$root" "$mirror" >"$root.log" 2>&1 \
    || { tail -5 "$root.log" >&2; rm -f "$root.log"; cannot "debootstrap does not work here (see above)"; }
rm -f "$root.log"
mount -t proc proc "$root/proc" || cannot "/proc cannot be mounted into the chroot"
# What the first boot does.
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
echo "clean-$(head -c 6 "$root/etc/machine-id")" >"$root/etc/hostname"
before=$(cd "$root" && find etc usr var/lib opt -xdev | sort)

echo "== the install script of $url"
cp "$binaries/dashfleet-agent" "$root/tmp/agent"
chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DASHFLEET_ENROLLMENT_TOKEN="$token" sh -euc \
    "curl -fsS '$url/install.sh' -o /tmp/install.sh && sh /tmp/install.sh --binary /tmp/agent --label check=chroot" \
    || fail "the install script"
[ -f "$root/etc/systemd/system/dashfleet-agent.service" ] || fail "there is no unit"

# No systemd runs in a chroot: what the unit would start is started here.
chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/local/bin/dashfleet-agent run 2>"$root/tmp/agent.log" &
agent=$!
machine=$(chroot "$root" /usr/local/bin/dashfleet-agent status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["machineId"])')
online=no
for _ in $(seq 100); do
    status=$(curl -fsS -H "Authorization: Bearer $key" "$url/api/v1/machines/$machine" \
        | python3 -c 'import json, sys; m = json.load(sys.stdin); print(m["status"], "latestSample" in m)') || status=
    if [ "$status" = "ONLINE True" ]; then online=yes; break; fi
    sleep 0.2
done
[ "$online" = yes ] || { tail -5 "$root/tmp/agent.log" >&2; fail "the machine is not ONLINE with a sample within 20 s ($status)"; }
echo "== machine $machine is ONLINE with a sample"
chroot "$root" /usr/local/bin/dashfleet-agent diagnose || fail "diagnose"

echo "== uninstall"
kill "$agent"
wait "$agent" || fail "the agent did not end well"
agent=
chroot "$root" /usr/local/bin/dashfleet-agent uninstall --yes || fail "uninstall"
after=$(cd "$root" && find etc usr var/lib opt -xdev | sort)
if ! left=$(diff <(echo "$before") <(echo "$after")); then
    echo "$left" >&2
    fail "something is left, or missing"
fi
echo "PASSED: installed, enrolled, ONLINE, uninstalled; nothing is left"
