# shellcheck shell=bash disable=SC2034
# What every script here shares: paths, messages, bounded waits, processes that `run` supervises.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SCRIPTS=$TOP/scripts
VENV=$TOP/.venv
RUN_DIR=/run/netctl
LOG_DIR=/var/log/netctl
STATE_DIR=/var/lib/netctl
BRIDGE=br-netctl
DRIVER=netctl
AGENT_SILENCE=5 CONTROLLER_SILENCE=10 # s without a heartbeat, then it hangs
PLUGIN_SOCKET=/run/docker/plugins/$DRIVER.sock
REST_URL=${NETMASTER:-http://127.0.0.1:9999}
COMMANDS=(netctl netctl-agent ryu-manager)
DEMO_IMAGE=netctl-demo
DEMO_PROVIDERS=(netctl-demo-1 netctl-demo-2 netctl-demo-3 netctl-demo-4)
DEMO_CLIENT=netctl-demo-client

# This machine's daemon, whatever a user's shell points at.
export DOCKER_HOST=unix:///run/docker.sock
unset DOCKER_CONTEXT

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() {
    warn "$(basename "$0"): $*"
    exit 1
}

need_root() {
    [ "$(id -u)" -eq 0 ] || die "needs root: network devices, Docker and Open vSwitch (sudo make $(basename "$0"))"
    mkdir -p "$LOG_DIR"
}

# One of run, demo, down, test at a time; the lock goes with the process. Daemons are started with fd 9 closed.
take_lock() {
    exec 9<"$LOG_DIR"
    flock -w 900 9 || die "another make run, down or test holds the lock for 15 minutes"
}

# wait_for SECONDS COMMAND...: true as soon as the command is, false when the time is over.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

# alive NAME PID: a process with that pid is there and was started here under that name (a pid may be somebody else's by now).
alive() {
    [ -n "$2" ] && [ -r "/proc/$2/environ" ] &&
        { tr '\0' '\n' <"/proc/$2/environ"; } 2>/dev/null | grep -qx "NETCTL_SUPERVISED=$1"
}
pid_in() { cat "$RUN_DIR/$1.pid" 2>/dev/null || true; }
supervised() { alive "$1" "$(pid_in "$1.supervisor")"; }
running() { alive "$1" "$(pid_in "$1")"; }
# hopeless NAME: it does not stay up; no use in waiting for it any longer.
hopeless() { gone "$1" || [ "$(cat "$RUN_DIR/$1.failures" 2>/dev/null || echo 0)" -ge 4 ]; }

# supervise_beats SECONDS NAME COMMAND...: the same for one that sends heartbeats; ended when it sends none for so long.
supervise_beats() {
    local -x NETCTL_SILENCE=$1
    shift
    supervise "$@"
}

# supervise NAME COMMAND...: in the background, in a session of its own, restarted when it dies.
supervise() {
    local name=$1
    supervised "$name" && return 0
    stop_supervised "$name" 10 # one whose supervisor was killed
    mkdir -p "$RUN_DIR"
    NETCTL_SUPERVISED=$name setsid env -u DOCKER_HOST "$SCRIPTS/supervise" "$RUN_DIR" "$LOG_DIR" "$@" </dev/null >/dev/null 2>&1 9>&- &
    wait_for 5 supervised "$name" || die "the supervisor of $name did not start"
}

# stop_supervised NAME SECONDS: supervisor and program; politely, and after SECONDS for good.
stop_supervised() {
    local name=$1 grace=$2 supervisor program
    supervisor=$(pid_in "$name.supervisor")
    alive "$name" "$supervisor" && kill -TERM "$supervisor"
    program=$(pid_in "$name")
    supervised "$name" || { running "$name" && kill -TERM "$program"; }
    if ! wait_for "$grace" gone "$name"; then
        warn "$name did not stop within $grace s: killed"
        alive "$name" "$supervisor" && kill -KILL "$supervisor"
        program=$(pid_in "$name")
        alive "$name" "$program" && kill -KILL "$program"
        wait_for 5 gone "$name" || warn "$name (process $program) does not die"
    fi
    rm -f "$RUN_DIR/$name.pid" "$RUN_DIR/$name.supervisor.pid" "$RUN_DIR/$name.failures" "$RUN_DIR/$name.heartbeat"
}
gone() { ! supervised "$1" && ! running "$1"; }

# Marks what was started here; a mark of an earlier boot says nothing.
mark() {
    mkdir -p "$RUN_DIR"
    cat /proc/sys/kernel/random/boot_id >"$RUN_DIR/started-$1"
}
marked() { [ "$(cat "$RUN_DIR/started-$1" 2>/dev/null)" = "$(cat /proc/sys/kernel/random/boot_id)" ]; }
unmark() { rm -f "$RUN_DIR/started-$1"; }

with_systemd() { [ -d /run/systemd/system ]; }
# engine COMMAND...: asks Docker Engine, also where the command `docker` is not installed.
engine() { python3 "$SCRIPTS/engine.py" "$@"; }
have() { command -v "$1" >/dev/null 2>&1; }
listening() { [ -n "$(ss -ltnH "sport = :$1" 2>/dev/null)" ]; }
plugin_answers() { [ -n "$(ss -xlH src "$PLUGIN_SOCKET" 2>/dev/null)" ]; }
