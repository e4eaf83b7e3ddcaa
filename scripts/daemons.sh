# shellcheck shell=bash
# Open vSwitch and Docker: started where they are installed but not running, stopped only if they were started here.

OVS_CTL=/usr/share/openvswitch/scripts/ovs-ctl

ovs_answers() { timeout 5 ovs-appctl -t ovs-vswitchd version && timeout 5 ovs-vsctl --timeout=4 --no-wait show; }
ovs_version() { ovs-vsctl --timeout=4 get Open_vSwitch . ovs_version | tr -d '"'; }

start_ovs() {
    # Somebody else's that answers is left alone; what was started here also has to be watched.
    if ! marked ovs && ovs_answers >/dev/null 2>&1; then return 0; fi
    mark ovs
    if with_systemd; then
        timeout 60 systemctl start openvswitch-switch >>"$LOG_DIR/openvswitch.log" 2>&1 9>&- || true
    else
        supervise openvswitch "$SCRIPTS/keep-ovs"
    fi
    wait_for 20 ovs_answers && return 0
    tail -n 3 "$LOG_DIR/openvswitch.log" >&2
    return 1
}

stop_ovs() {
    marked ovs || return 0
    if with_systemd; then
        timeout 60 systemctl stop openvswitch-switch >>"$LOG_DIR/openvswitch.log" 2>&1 || true
    else
        stop_supervised openvswitch 10
        timeout 60 "$OVS_CTL" stop </dev/null >>"$LOG_DIR/openvswitch.log" 2>&1 || true
    fi
    unmark ovs
}

containerd_answers() { timeout 5 ctr --connect-timeout 2s version; }
docker_answers() { timeout 5 docker version --format '{{.Server.Version}}'; }
# It answers, or nothing is left that could still make it answer.
docker_settled() {
    docker_answers && return 0
    have dockerd || return 0
    if with_systemd; then systemctl is-failed -q docker; else hopeless dockerd; fi
}

mount_cgroups() {
    grep -qE ' cgroup2? ' /proc/mounts && return 0
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
}

# Starts Docker without waiting: a daemon that finds networks of ours asks our plugin before it answers anybody.
launch_docker() {
    docker_answers >/dev/null 2>&1 && return 0
    have dockerd || return 1
    mark docker
    if with_systemd; then
        timeout 120 systemctl start --no-block docker >>"$LOG_DIR/dockerd.log" 2>&1 9>&-
        return
    fi
    ip link show docker0 >/dev/null 2>&1 || : >"$RUN_DIR/made-docker0"
    mount_cgroups >>"$LOG_DIR/dockerd.log" 2>&1 || true # then dockerd's own message says what is missing
    # Containers outlive a crash of the daemon. Given twice, here and in its file, dockerd refuses an option.
    local options=(--live-restore)
    if grep -qs live-restore /etc/docker/daemon.json; then options=(); fi
    # containerd apart: a killed daemon that had started its own may not get along with what it left behind.
    if have containerd && ! containerd_answers >/dev/null 2>&1; then
        supervise containerd containerd
        wait_for 20 containerd_answers || warn "containerd does not answer (log: $LOG_DIR/containerd.log)"
    fi
    supervise dockerd dockerd "${options[@]}"
}

# Waits for the daemon launched before; false when there is none, with the reason in one line.
wait_docker() {
    local reason
    wait_for "${1:-120}" docker_settled
    docker_answers >/dev/null 2>&1 && return 0
    if ! have dockerd; then
        reason="not installed"
    elif with_systemd; then
        reason="systemctl status docker tells why"
    else
        reason=$(grep -aE 'failed to start daemon|level=(fatal|error)' "$LOG_DIR/dockerd.log" | tail -n 1 | cut -c1-300)
        reason=${reason:-see $LOG_DIR/dockerd.log}
    fi
    warn "No Docker daemon here ($reason)"
    return 1
}

stop_docker() {
    marked docker || return 0
    if with_systemd; then
        timeout 120 systemctl stop docker.service docker.socket >>"$LOG_DIR/dockerd.log" 2>&1 || true
    else
        # With live restore the containers would outlive the daemon.
        local containers
        containers=$(timeout 20 docker ps -q 2>/dev/null || true)
        # shellcheck disable=SC2086 # a list of words
        [ -z "$containers" ] || timeout 120 docker stop -t 5 $containers >>"$LOG_DIR/dockerd.log" 2>&1 || true
        stop_supervised dockerd 60
        stop_supervised containerd 20
        if [ -e "$RUN_DIR/made-docker0" ]; then ip link del docker0 2>/dev/null || true; fi
        rm -f "$RUN_DIR/made-docker0"
    fi
    unmark docker
}
