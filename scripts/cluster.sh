# shellcheck shell=bash disable=SC2034
# The cluster of `make cluster`: hosts that are network namespaces, each with an Open vSwitch, a Docker Engine and an
# agent of its own, joined by an underlay (a bridge in a namespace of its own), and one controller beside them.

HOSTS=(h1 h2 h3)
UNDERLAY=netctl-phy
SUBNET=203.0.113 # documentation's: nobody's
CONTROLLER_ADDRESS=$SUBNET.254
OWN_ADDRESS=$SUBNET.253 # this machine's, to reach the controller
CLUSTER_URL=http://$CONTROLLER_ADDRESS:9999
CLUSTER_RUN=$RUN_DIR/cluster
CLUSTER_STATE=/var/lib/netctl-cluster
PARTS=(agent dockerd containerd vswitchd ovsdb mounts) # of a host, in the order in which they end

address_of() { echo "$SUBNET.${1#h}"; }
netns_of() { echo "netctl-$1"; }
docker_of() { echo "unix://$CLUSTER_RUN/$1/docker.sock"; }
supervised_parts() { # every program that the cluster consists of
    local host part
    for host in "${HOSTS[@]}"; do
        for part in "${PARTS[@]}"; do echo "$host-$part"; done
    done
    echo cluster-controller
}
cluster_present() { [ -e "/run/netns/$UNDERLAY" ] || [ -d "$CLUSTER_RUN" ] || [ -d "$CLUSTER_STATE" ]; }

# Processes of a namespace, and their children: what a daemon that was killed has left, containers too.
leftovers() {
    local process
    for process in $(ip netns pids "$1" 2>/dev/null); do
        echo "$process"
        ps -o pid= --ppid "$process" || true
    done
}

take_host_down() {
    local host=$1 part containers process
    containers=$(DOCKER_HOST=$(docker_of "$host") timeout 20 docker ps -aq 2>/dev/null || true)
    # shellcheck disable=SC2086 # a list of words
    [ -z "$containers" ] || DOCKER_HOST=$(docker_of "$host") timeout 120 docker rm -f $containers >>"$LOG_DIR/down.log" 2>&1 || true
    for part in "${PARTS[@]}"; do stop_supervised "$host-$part" 20; done
    for process in $(leftovers "$(netns_of "$host")"); do kill -KILL "$process" 2>/dev/null || true; done
    ip netns del "$(netns_of "$host")" 2>/dev/null || true
}

take_cluster_down() {
    local host
    cluster_present || return 0
    for host in "${HOSTS[@]}"; do take_host_down "$host"; done
    stop_supervised cluster-controller 15
    ip netns del "$UNDERLAY" 2>/dev/null || true
    ip link del "$UNDERLAY" 2>/dev/null || true
    rm -rf "$CLUSTER_RUN" "$CLUSTER_STATE"
}
