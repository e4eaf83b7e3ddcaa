# shellcheck shell=bash
# Open vSwitch and Docker: started where they are installed but not running, stopped only if they were started here.

HANGING_LIMIT=10 # s for a daemon that runs already and does not answer
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
containerd_settled() { containerd_answers || hopeless containerd; }
docker_answers() { engine version; }
docker_says() { { docker_answers >/dev/null; } 2>&1 || true; } # why it does not answer
# It answers, or nothing is left that could still make it answer.
docker_settled() {
    docker_answers && return 0
    have dockerd || return 0
    if with_systemd; then [ -z "$(unit_coming docker)" ]; else hopeless dockerd && ! docker_hangs; fi
}
# unit_coming NAME: how systemd is still working on it; nothing where it has given up, or was not asked to.
unit_coming() {
    systemctl show -p ActiveState -p Job "$1" | grep -xE 'ActiveState=(active|activating|reloading|deactivating)|Job=[1-9][0-9]*' || true
}

mount_cgroups() {
    grep -qE ' cgroup2? ' /proc/mounts && return 0
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
}

# A daemon of somebody else's has the socket and says nothing: it waits for our plugin, or it is frozen. A second one beside it
# would not start.
docker_hangs() { ! with_systemd && ! supervised dockerd && [ -n "$(ss -xlH src /run/docker.sock or src /var/run/docker.sock 2>/dev/null)" ]; }

# How long the logs of Docker's daemons were when they were launched: what is older tells nothing about this start.
declare -A LOG_BEGINS=([dockerd]=0 [containerd]=0)
begin_log() { LOG_BEGINS[$1]=$(stat -c %s "$LOG_DIR/$1.log" 2>/dev/null || echo 0); }
# last_error NAME: the line in which the daemon said why it ends, or else its last one.
last_error() {
    local said
    said=$(tail -c "+$((LOG_BEGINS[$1] + 1))" "$LOG_DIR/$1.log" 2>/dev/null | grep -av ' supervise: ') || true
    { grep -aE 'failed to start daemon|level=(fatal|error)' <<<"$said" || printf '%s\n' "$said"; } | tail -n 1 | sed 's/^time="[^"]*" //' | cut -c1-300
}

# Starts Docker without waiting: a daemon that finds networks of ours asks our plugin before it answers anybody.
launch_docker() {
    docker_answers >/dev/null 2>&1 && return 0
    have dockerd || return 1
    if docker_hangs; then return 0; fi
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
        begin_log containerd
        supervise containerd containerd
        wait_for 20 containerd_settled || true
        containerd_answers >/dev/null 2>&1 || return 1 # dockerd would wait for it, and say so much later
    fi
    begin_log dockerd
    supervise dockerd dockerd "${options[@]}"
}

# Why no daemon answers.
docker_reason() {
    if ! have dockerd; then
        echo "Docker Engine is not installed: dockerd, of Debian's package docker.io"
    elif with_systemd; then
        echo "systemctl status docker tells why"
    elif supervised containerd && ! containerd_answers >/dev/null 2>&1; then
        echo "containerd does not start: $(last_error containerd) (log: $LOG_DIR/containerd.log)"
    elif docker_hangs; then
        docker_says
    elif [ -n "$(last_error dockerd)" ]; then
        echo "dockerd does not start: $(last_error dockerd) (log: $LOG_DIR/dockerd.log)"
    else
        docker_says
    fi
}

# wait_docker SECONDS: for the daemon launched before; false as soon as there is no hope of it, with the reason in one line.
wait_docker() {
    local seconds=$1
    if docker_hangs; then seconds=$HANGING_LIMIT; fi
    wait_for "$seconds" docker_settled || true
    docker_answers >/dev/null 2>&1 && return 0
    warn "No Docker daemon here: $(docker_reason)"
    return 1
}

stop_docker() {
    marked docker || return 0
    if with_systemd; then
        timeout 120 systemctl stop docker.service docker.socket >>"$LOG_DIR/dockerd.log" 2>&1 || true
    else
        # With live restore the containers would outlive the daemon.
        local containers
        containers=$(engine --timeout 20 running 2>/dev/null || true)
        # shellcheck disable=SC2086 # a list of words
        [ -z "$containers" ] || engine --timeout 60 stop $containers >>"$LOG_DIR/dockerd.log" 2>&1 || true
        stop_supervised dockerd 60
        stop_supervised containerd 20
        if [ -e "$RUN_DIR/made-docker0" ]; then ip link del docker0 2>/dev/null || true; fi
        rm -f "$RUN_DIR/made-docker0"
    fi
    unmark docker
}
