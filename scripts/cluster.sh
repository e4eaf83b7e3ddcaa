# shellcheck shell=bash disable=SC2034
# The cluster of `make cluster`, each machine a network namespace, joined by an underlay (a bridge in a namespace of its
# own): hosts with an Open vSwitch, a Docker Engine and an agent; managers with a member of etcd, two of them with a
# controller.

HOSTS=(h1 h2 h3)
MANAGERS=(m1 m2 m3)
CONTROLLERS=(m1 m2)
UNDERLAY=netctl-phy
SUBNET=203.0.113 # documentation's: nobody's
OWN_ADDRESS=$SUBNET.254 # this machine's, to reach the controllers
CLUSTER_RUN=$RUN_DIR/cluster
CLUSTER_STATE=/var/lib/netctl-cluster
HOST_PARTS=(agent dockerd containerd openvswitch mounts) # in the order in which they end
MANAGER_PARTS=(controller etcd)

address_of() { # h2: .2, m2: .12
    case $1 in
        m*) echo "$SUBNET.1${1#m}" ;;
        *) echo "$SUBNET.${1#h}" ;;
    esac
}
netns_of() { echo "netctl-$1"; }
docker_of() { echo "unix://$CLUSTER_RUN/$1/docker.sock"; }
etcd_of() { echo "http://$(address_of "$1"):2379"; }
rest_of() { echo "http://$(address_of "$1"):9999"; }
each() { # each COMMAND MACHINE...: what the command says of each, with commas
    local command=$1 machine sum=
    shift
    for machine; do sum+=${sum:+,}$("$command" "$machine"); done
    echo "$sum"
}
CLUSTER_URL=$(each rest_of "${CONTROLLERS[@]}")

cluster_present() { [ -e "/run/netns/$UNDERLAY" ] || [ -d "$CLUSTER_RUN" ] || [ -d "$CLUSTER_STATE" ]; }
cluster_answers() { [ -e "/run/netns/$UNDERLAY" ] && python3 "$SCRIPTS/ready.py" "$CLUSTER_URL" --host; }

# Processes of a namespace, and their children: what a daemon that was killed has left, containers too.
leftovers() {
    local process
    for process in $(ip netns pids "$1" 2>/dev/null); do
        echo "$process"
        ps -o pid= --ppid "$process" || true
    done
}

take_machine_down() { # MACHINE PART...
    local machine=$1 part process
    shift
    for part; do stop_supervised "$machine-$part" 20; done
    for process in $(leftovers "$(netns_of "$machine")"); do kill -KILL "$process" 2>/dev/null || true; done
    ip netns del "$(netns_of "$machine")" 2>/dev/null || true
}

take_host_down() {
    local host=$1 containers
    containers=$(DOCKER_HOST=$(docker_of "$host") engine --timeout 20 containers 2>/dev/null || true)
    # shellcheck disable=SC2086 # a list of words
    [ -z "$containers" ] || DOCKER_HOST=$(docker_of "$host") engine --timeout 60 remove containers $containers >>"$LOG_DIR/down.log" 2>&1 || true
    take_machine_down "$host" "${HOST_PARTS[@]}"
}

take_cluster_down() {
    local machine
    cluster_present || return 0
    for machine in "${HOSTS[@]}"; do take_host_down "$machine"; done
    for machine in "${MANAGERS[@]}"; do take_machine_down "$machine" "${MANAGER_PARTS[@]}"; done
    ip netns del "$UNDERLAY" 2>/dev/null || true
    ip link del "$UNDERLAY" 2>/dev/null || true
    rm -rf "$CLUSTER_RUN" "$CLUSTER_STATE"
}
