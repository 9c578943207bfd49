#!/usr/bin/env bash
# Runs the install script in a clean Debian and looks whether it leaves a running, enrolled agent; then uninstalls it and
# looks whether anything is left. Needs a running product (`cargo xtask up --detach`), root and `debootstrap`. Where it
# cannot run it says so and why, and ends with code 77.
#
#   deploy/check/chroot.sh [--data DIR] [--binaries DIR] [--suite SUITE] [--mirror URL] [--cache DIR]
#
# --suite   this machine's own where it is a Debian: the program was built against its C library
# --cache   where debootstrap's packages are kept from one run to the next (default: target/tools)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

data=.dashfleet
binaries=target/debug
suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2>/dev/null || true)
grep -qsx 'ID=debian' /etc/os-release || suite=
suite=${suite:-bookworm}
mirror=http://deb.debian.org/debian
cache=target/tools
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || { echo "chroot.sh: $1 needs a value" >&2; exit 64; }
    case $1 in
        --data) data=$2 ;;
        --binaries) binaries=$2 ;;
        --suite) suite=$2 ;;
        --mirror) mirror=$2 ;;
        --cache) cache=$2 ;;
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

# In namespaces of its own: what is mounted and started here ends with this script, however it ends, and nobody else
# sees a mount.
if [ "${DASHFLEET_CHROOT_ALONE:-}" != 1 ]; then
    command -v unshare >/dev/null || cannot "unshare is missing: install the package util-linux"
    alone=(unshare --mount --propagation private --pid --fork --kill-child --mount-proc)
    "${alone[@]}" true 2>/dev/null || cannot "namespaces of its own are not allowed here"
    DASHFLEET_CHROOT_ALONE=1 exec "${alone[@]}" bash deploy/check/chroot.sh \
        --data "$data" --binaries "$binaries" --suite "$suite" --mirror "$mirror" --cache "$cache"
fi

work=$(mktemp -d /var/tmp/dashfleet-chroot.XXXXXX)
root=$work/root
agent=
cleanup() {
    if [ -n "$agent" ]; then kill "$agent" 2>/dev/null || true; wait "$agent" 2>/dev/null || true; fi
    # What is still mounted belongs to the machine: never remove through it.
    if ! mountpoint -q "$root/proc" || umount "$root/proc"; then rm -rf --one-file-system "$work"; fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# debootstrap runs each time; only its downloads are kept, for a week.
packages=$(mkdir -p "$cache" && cd "$cache" && pwd)/debootstrap-$suite.tar
find "$packages" -mtime +7 -delete 2>/dev/null || true
made() { debootstrap --variant=minbase --include=curl,ca-certificates "$@" "$mirror" >"$work/log" 2>&1; }
not_made() {
    tail -5 "$work/log" >&2
    cannot "debootstrap does not work here (see above)"
}
echo "== a clean $suite in $root"
if [ ! -f "$packages" ]; then
    made --make-tarball="$work/packages.tar" "$suite" "$work/making" || not_made
    mv "$work/packages.tar" "$packages.$$" && mv "$packages.$$" "$packages"
fi
made --unpack-tarball="$packages" "$suite" "$root" || not_made
mount -t proc proc "$root/proc" || cannot "/proc cannot be mounted into the chroot"
# What the first boot does.
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
echo "clean-$(head -c 6 "$root/etc/machine-id")" >"$root/etc/hostname"
# Everything but what programs keep for themselves at run time.
files() { (cd "$root" && find . -xdev \( -path ./proc -o -path ./tmp -o -path ./run \) -prune -o -print | sort); }
before=$(files)

# Nothing of this machine's environment is known inside.
inside() { exec chroot "$root" /usr/bin/env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

echo "== the install script of $url"
cp "$binaries/dashfleet-agent" "$root/tmp/agent"
(inside DASHFLEET_ENROLLMENT_TOKEN="$token" sh -euc \
    "curl -fsS '$url/install.sh' -o /tmp/install.sh && sh /tmp/install.sh --binary /tmp/agent --label check=chroot") \
    || fail "the install script"
unit=$root/etc/systemd/system/dashfleet-agent.service
[ -f "$unit" ] || fail "there is no unit"

# No systemd runs in a chroot: what the unit would start is started here.
read -ra start < <(sed -n 's/^ExecStart=//p' "$unit")
(inside "${start[@]}" 2>"$root/tmp/agent.log") &
agent=$!
machine=$( (inside dashfleet-agent status --json) | python3 -c 'import json, sys; print(json.load(sys.stdin)["machineId"])')
online=no
for _ in $(seq 100); do
    status=$(curl -fsS -H "Authorization: Bearer $key" "$url/api/v1/machines/$machine" \
        | python3 -c 'import json, sys; m = json.load(sys.stdin); print(m["status"], "latestSample" in m)') || status=
    if [ "$status" = "ONLINE True" ]; then online=yes; break; fi
    sleep 0.2
done
[ "$online" = yes ] || { tail -5 "$root/tmp/agent.log" >&2; fail "the machine is not ONLINE with a sample within 20 s ($status)"; }
echo "== machine $machine is ONLINE with a sample"
(inside dashfleet-agent diagnose) || fail "diagnose"

echo "== uninstall"
kill "$agent"
wait "$agent" || fail "the agent did not end well"
agent=
(inside dashfleet-agent uninstall --yes) || fail "uninstall"
after=$(files)
if ! left=$(diff <(echo "$before") <(echo "$after")); then
    echo "$left" >&2
    fail "something is left, or missing"
fi
echo "PASSED: installed, enrolled, ONLINE, uninstalled; nothing is left"
