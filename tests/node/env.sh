# Where everything of the test node is. Sourced by its scripts; each can be set from outside.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
# What is built from Go: outside the checkout, kept from run to run.
cache=${SLICEWATCH_NODE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/slicewatch-node}
# The node itself: sockets, state, logs. Short, for paths of sockets; gone after `down`.
node=${SLICEWATCH_NODE_DIR:-/run/slicewatch-node}
# Built parts: made by `build`, or unpacked from what `pack` made.
parts=${SLICEWATCH_NODE_PARTS:-$cache/bin}
node_name=slicewatch-test
# The service network of the node is this one address, on the loopback interface.
api_address=10.96.0.1
pod_network=10.88.0.0/16
kubelet_root=/var/lib/kubelet

export PATH="$parts:$parts/cni:$PATH:/usr/sbin:/sbin"
# Libraries that travel with packed parts.
[ ! -d "$parts/lib" ] || export LD_LIBRARY_PATH=$parts/lib
export KUBECONFIG=$node/admin.kubeconfig

step() { printf '%s · %s\n' "$(date +%T)" "$*" >&2; }
fail() {
    printf 'tests/node: %s\n' "$*" >&2
    exit 1
}
# Waits until a command succeeds: wait_for SECONDS WHAT COMMAND...
wait_for() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "$what: not within the time; see $node/log"
        sleep 0.2
    done
}
# Starts a process of the node in the background, its log and its id noted under its name.
start() {
    local name=$1
    shift
    setsid "$@" >>"$node/log/$name.log" 2>&1 </dev/null &
    echo $! >"$node/pid/$name"
}
# Ends one by name, and waits for its end: finish NAME [SIGNAL]
finish() {
    local pid
    pid=$(cat "$node/pid/$1" 2>/dev/null) || return 0
    kill -"${2:-TERM}" "$pid" 2>/dev/null || true
    for _ in $(seq 150); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    rm -f "$node/pid/$1"
}
