#!/bin/sh
# Installs the DashFleet agent on this machine and enrols it. Linux with systemd, or macOS. Run as root:
#
#   curl -fsSL @URL@/install.sh | DASHFLEET_ENROLLMENT_TOKEN=dfe_... sh
#   sh install.sh [--token TOKEN] [--action-key FINGERPRINT] [--label KEY=VALUE]... [--binary PATH] [--no-start]
#
# It may be repeated: what is there is replaced, and an enrolment is kept.
set -eu

url='@URL@'
# The fingerprint of the key whose orders this machine will obey. Compare it with what you were told.
action_key='@ACTION_KEY@'
# Where the program comes from; empty when this installation does not offer it.
binaries='@BINARIES@'

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

# Nothing is done before all of this has arrived: a connection that breaks leaves half a script to the shell.
main() {
    token=${DASHFLEET_ENROLLMENT_TOKEN:-}
    binary=
    named_key=
    start=yes
    labels=
    while [ $# -gt 0 ]; do
        case $1 in
            --no-start) start=no ;;
            --token | --action-key | --label | --binary)
                [ $# -ge 2 ] || fail "$1 needs a value"
                case $1 in
                    --token) token=$2 ;;
                    --action-key) action_key=$2 named_key=$2 ;;
                    --binary) binary=$2 ;;
                    --label)
                        case $2 in *[!A-Za-z0-9._/=-]*) fail "--label $2: has other characters than A-Z a-z 0-9 . _ / - =" ;; esac
                        labels="$labels --label $2"
                        ;;
                esac
                shift
                ;;
            *) fail "$1 is not known; see the head of this script" ;;
        esac
        shift
    done

    [ "$(id -u)" = 0 ] || fail "run it as root"
    case $(uname -s) in
        Linux) system=linux ;;
        Darwin) system=macos ;;
        *) fail "$(uname -s) is not served by this script" ;;
    esac
    case $(uname -m) in
        x86_64 | amd64) machine=x86_64 ;;
        aarch64 | arm64) machine=aarch64 ;;
        *) fail "there is no agent for $(uname -m)" ;;
    esac

    program=/usr/local/bin/dashfleet-agent
    install -d -m 0755 /usr/local/bin /etc/dashfleet
    # It is made and tried where it will be: nothing may run where temporary files are on some machines. It takes the old
    # one's place at once: a program that runs cannot be written.
    new=$program.new
    trap 'rm -f "$new"' EXIT
    rm -f "$new"
    if [ -n "$binary" ]; then
        cp "$binary" "$new" || fail "$binary cannot be copied to $new"
    else
        [ -n "$binaries" ] || fail "this installation does not offer the agent's program: set DASHFLEET_AGENT_BINARIES of \
the gateway, or give --binary PATH"
        from="$binaries/dashfleet-agent-$system-$machine"
        echo "getting $from"
        if command -v curl >/dev/null; then
            curl -fsSL -o "$new" "$from" || fail "$from cannot be fetched"
        elif command -v wget >/dev/null; then
            wget -q -O "$new" "$from" || fail "$from cannot be fetched"
        else
            fail "neither curl nor wget is here"
        fi
    fi
    chmod 0755 "$new"
    "$new" --version >/dev/null || fail "the program does not run on this machine; what is above says why"
    mv -f "$new" "$program"

    echo "enrolling with $url"
    # Keys rotate. A machine that is enrolled knows whom it obeys: only a key that somebody has named is compared with that.
    if [ -z "$named_key" ] && "$program" status >/dev/null 2>&1; then
        action_key=
        echo "this machine is enrolled already; \`dashfleet-agent status\` says whose orders it obeys"
    else
        echo "orders are obeyed that this key has signed: $action_key"
    fi
    if [ "$system" = macos ]; then
        [ -e /etc/dashfleet/agent.json ] || cat >/etc/dashfleet/agent.json <<'CONFIGURATION'
{ "logFile": "/var/log/dashfleet-agent.log" }
CONFIGURATION
    fi
    # An agent that runs holds its folder: it rests meanwhile, and goes on if the enrolment fails.
    ran=no
    if [ "$system" = macos ]; then
        if launchctl bootout system/dev.dashfleet.agent 2>/dev/null; then ran=yes; fi
    elif [ -d /run/systemd/system ] && systemctl is-active --quiet dashfleet-agent; then
        ran=yes
        systemctl stop dashfleet-agent
    fi
    # The token goes by the environment, where other users do not see it. Labels were checked above.
    # shellcheck disable=SC2086
    if ! DASHFLEET_ENROLLMENT_TOKEN=$token "$program" enroll --url "$url" --action-key "$action_key" $labels; then
        if [ "$ran$system" = yesmacos ]; then
            launchctl bootstrap system /Library/LaunchDaemons/dev.dashfleet.agent.plist || true
        elif [ "$ran" = yes ]; then
            systemctl start dashfleet-agent || true
        fi
        fail "the enrolment failed; what is above says why"
    fi

    if [ "$system" = macos ]; then
        cat >/Library/LaunchDaemons/dev.dashfleet.agent.plist <<'UNIT'
@LAUNCHD@
UNIT
        if [ "$start" = yes ] || [ "$ran" = yes ]; then
            launchctl bootout system/dev.dashfleet.agent 2>/dev/null || true
            launchctl bootstrap system /Library/LaunchDaemons/dev.dashfleet.agent.plist
        fi
    else
        cat >/etc/systemd/system/dashfleet-agent.service <<'UNIT'
@UNIT@
UNIT
        if [ -d /run/systemd/system ]; then
            systemctl daemon-reload
            systemctl enable --quiet dashfleet-agent
            if [ "$start" = yes ] || [ "$ran" = yes ]; then
                systemctl restart dashfleet-agent
            fi
        else
            echo "systemd does not run here: the unit is in its place, start the agent with \`$program run\`"
        fi
    fi
    echo "done; see \`dashfleet-agent status\` and \`dashfleet-agent diagnose\`"
}

main "$@"
