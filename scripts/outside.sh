# shellcheck shell=bash disable=SC2034
# What the agent leaves in the kernel, to be removed by `down`. What could not be is added to the array `left`.

# The agent's chains in the kernel's packet filter. Addresses and routes have gone with the bridge.
take_rules_down() {
    local program table lines
    for program in iptables ip6tables; do
        have "$program-save" || continue
        for table in filter nat; do
            lines=$("$program-save" -t "$table" 2>/dev/null | awk '
                /^-A / && !/^-A NETCTL-/ && / -j NETCTL-/ { sub(/^-A/, "-D"); print }
                /^:NETCTL-/ { chain = substr($1, 2); emptied = emptied "-F " chain "\n"; gone = gone "-X " chain "\n" }
                END { printf "%s%s", emptied, gone }')
            [ -n "$lines" ] || continue
            printf '*%s\n%s\nCOMMIT\n' "$table" "$lines" |
                "$program-restore" --noflush --wait 10 >>"$LOG_DIR/down.log" 2>&1 ||
                left+=("rules NETCTL-* of $program -t $table")
        done
    done
}

# Turned off again if the agent has turned it on since this boot, and nobody else needs it by now.
take_forwarding_down() {
    local file=$STATE_DIR/forwarding
    if [ "$(cat "$file" 2>/dev/null)" = "$(cat /proc/sys/kernel/random/boot_id)" ]; then
        if docker_answers >/dev/null 2>&1; then
            say "net.ipv4.ip_forward stays on: Docker goes on running, and needs it."
        else
            echo 0 >/proc/sys/net/ipv4/ip_forward || left+=("net.ipv4.ip_forward")
        fi
    fi
    rm -f "$file"
}
