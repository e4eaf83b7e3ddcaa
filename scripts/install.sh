# shellcheck shell=bash disable=SC2034
# Brings what is missing: Debian's packages with apt, ours and its dependencies into .venv with pip.

PACKAGES=(openvswitch-switch busybox-static iproute2 iputils-ping ethtool iptables procps kmod util-linux
    python3-venv mininet ca-certificates)
CLUSTER_PACKAGES=(etcd-server)
TEST_PACKAGES=(shellcheck docker-compose "${CLUSTER_PACKAGES[@]}")
BENCH_PACKAGES=(wrk iperf3)
LOCK_WAIT=600 # s: for another program's apt to end

# Debian's engine, unless there is one from elsewhere; a kernel with AppArmor makes it load a profile, which needs the parser.
engine_packages() {
    have dockerd || echo docker.io
    if grep -qs Y /sys/module/apparmor/parameters/enabled; then echo apparmor; fi
}

missing_packages() {
    local package
    for package; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || printf '%s ' "$package"
    done
}

# apt_get ARGUMENT...: apt waits for the lock of dpkg by itself, but not for those of its lists and its archive.
apt_get() {
    local log=$LOG_DIR/apt.log end=$((SECONDS + LOCK_WAIT)) mark
    while :; do
        mark=$(stat -c %s "$log" 2>/dev/null || echo 0)
        DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l APT_LISTCHANGES_FRONTEND=none timeout 1800 \
            apt-get -q -y -o DPkg::Lock::Timeout="$LOCK_WAIT" -o Acquire::Retries=3 \
            -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
            "$@" </dev/null >>"$log" 2>&1 9>&- && return 0
        tail -c "+$((mark + 1))" "$log" | grep -qiE '(could not get|unable to) lock' || return 1
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 2 # the lock is somebody else's; there is nothing to wait on but time
    done
}

# Without systemd a package's script would start the daemon by itself, in the foreground of our pipe: we start it.
forbid_starting() {
    [ -e /usr/sbin/policy-rc.d ] && return 0
    with_systemd && return 0
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
}

# install_packages PACKAGE...: those that are missing; false when that fails. In a subshell, for the trap above.
install_packages() (
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || exit 0
    have apt-get || { warn "No apt-get here: install by hand what these packages bring: $missing"; exit 1; }
    say "Installing ${missing% } (log: $LOG_DIR/apt.log)"
    forbid_starting
    apt_get update || warn "apt-get update failed (see $LOG_DIR/apt.log); trying with the lists that are there"
    # shellcheck disable=SC2086 # a list of words
    apt_get install --no-install-recommends $missing && exit 0
    tail -n 5 "$LOG_DIR/apt.log" >&2
    warn "apt-get could not install: $missing"
    exit 1
)

# The engine, and the command: from Debian 13 on that is a package of its own.
install_docker() {
    local packages
    mapfile -t packages < <(engine_packages)
    install_packages "${packages[@]}" || return 1
    have docker || install_packages docker-cli
}

# install_all PACKAGE...: those, Docker, and the Python environment.
install_all() {
    install_packages "$@" || exit 1
    install_docker || true # without Docker the rest still works; it is said where it is missed
    install_python
}

find_python() {
    local python
    for python in python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11; do
        if "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$python"
            return 0
        fi
    done
    return 1
}

# What the environment was made from; when it changes, pip runs again. The path: an environment does not survive a move.
stamp() { { echo "$VENV"; cat "$TOP/setup.cfg" "$TOP/pyproject.toml"; } | sha256sum | cut -d' ' -f1; }

install_python() {
    local python log=$LOG_DIR/pip.log
    if [ "$(cat "$VENV/.stamp" 2>/dev/null)" = "$(stamp)" ] && "$VENV/bin/python" -c '' 2>/dev/null; then
        return 0
    fi
    python=$(find_python) || die "no Python 3.11 or newer with venv found"
    say "Installing into .venv with $("$python" --version) (log: $log)"
    rm -f "$VENV/.stamp"
    # An environment of another path or a removed Python is made anew.
    if ! "$VENV/bin/python" -c '' 2>/dev/null || ! grep -qsF "$VENV/bin/python" "$VENV/bin/pip"; then rm -rf "$VENV"; fi
    {
        [ -d "$VENV" ] || "$python" -m venv "$VENV"
        timeout 1800 "$VENV/bin/python" -m pip install --editable "${TOP}[dev]"
    } </dev/null >"$log" 2>&1 9>&- || {
        tail -n 5 "$log" >&2
        die "pip could not install what setup.cfg names"
    }
    stamp >"$VENV/.stamp"
}

# Our commands on the PATH; what is there from elsewhere stays.
link_commands() {
    local name link
    for name in "${COMMANDS[@]}"; do
        link=/usr/local/bin/$name
        if [ -L "$link" ] && [ ! -e "$link" ]; then rm -f "$link"; fi
        if [ ! -e "$link" ]; then
            ln -s "$VENV/bin/$name" "$link"
        elif [ "$(readlink "$link")" != "$VENV/bin/$name" ]; then
            warn "$link is not this checkout's: use $VENV/bin/$name"
        fi
    done
}
unlink_commands() {
    local name
    for name in "${COMMANDS[@]}"; do
        if [ "$(readlink "/usr/local/bin/$name")" = "$VENV/bin/$name" ]; then rm -f "/usr/local/bin/$name"; fi
    done
}
