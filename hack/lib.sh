# shellcheck shell=bash
# What every script in hack/ shares: saying, failing, caching, ports, stopping. Source it, don't run it.
#
# Rules it keeps: whatever is cached is made in a temporary folder beside its final place and then
# renamed, so a killed run leaves nothing half-made; one lock per thing that is made, so two runs at
# once wait for each other instead of doing the work twice; only processes that we started are ended,
# by their id.

set -euo pipefail

HACK=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034  # for the scripts that source this file
ROOT=$(dirname "$HACK")
# Raise when the layout of the cache changes: old folders are then simply not looked at.
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/theseus/v1"
STARTED_AT=${EPOCHREALTIME/[.,]/}

# shellcheck disable=SC2120  # the argument is optional
# Prints seconds with one decimal since the given microsecond stamp (default: since this script began).
elapsed() {
    local since=${1:-$STARTED_AT} now=${EPOCHREALTIME/[.,]/} tenths
    tenths=$(((now - since) / 100000))
    printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}

# shellcheck disable=SC2119
# One line to stderr: time of day, seconds since this script began, who, what. (stdout is for results.)
say() { printf '%(%H:%M:%S)T +%ss %s: %s\n' -1 "$(elapsed)" "${SELF:-${0##*/}}" "$*" >&2; }

# Ends the script. The sentence says what is wrong and what to do about it.
die() {
    say "error: $*"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# need TOOL[:PACKAGE]… : fails with all that is missing, not with the first. PACKAGE is Debian's name of it.
need() {
    local missing=() packages=() tool
    for tool in "$@"; do have "${tool%:*}" || { missing+=("${tool%:*}") && packages+=("${tool#*:}"); }; done
    ((${#missing[@]} == 0)) || die "needs ${missing[*]} on the PATH; install it (Debian: apt-get install ${packages[*]})"
}

# locked NAME COMMAND… : runs COMMAND under an exclusive lock of that name, across processes.
# The lock is not handed down to children (COMMAND's daemons would keep it), and vanishes with its holder.
locked() {
    local name=$1 rc=0 fd
    shift
    mkdir -p "$CACHE/locks"
    exec {fd}>"$CACHE/locks/$name"
    if ! flock --nonblock "$fd"; then
        say "another run is making $name; waiting for it"
        flock --wait 3600 "$fd" || die "waited an hour for $CACHE/locks/$name; is another run stuck?"
    fi
    # A subshell, so that `die` inside does not skip the unlocking; and not `( … ) || rc=$?`, which would
    # switch `set -e` off for all of COMMAND.
    set +e
    (
        set -e
        "$@" {fd}>&-
    )
    rc=$?
    set -e
    exec {fd}>&-
    return "$rc"
}

# A temporary folder beside the final place (same file system: the rename is atomic). Prints it.
# Leftovers of killed runs older than a day are removed on the way.
staging() {
    local place=$1
    mkdir -p "$(dirname "$place")"
    find "$(dirname "$place")" -maxdepth 1 -name '.making-*' -mmin +1440 -exec rm -rf {} + 2>/dev/null || true
    mktemp -d "$(dirname "$place")/.making-XXXXXX"
}

# unpack_debian TREE SUITE WHAT ELSE PACKAGE… : unpacks packages with all that they depend on from Debian into TREE, by a private apt
# root: own sources, lists and (empty) status, so the host's packages and lists stay as they are and no root is needed. To be called
# under a lock. ELSE is what somebody can do who has no Debian mirror.
unpack_debian() {
    local tree=$1 suite=$2 what=$3 how=$4 mirror keyring tmp files
    shift 4
    have apt-get && have dpkg || die "this is not a Debian machine, which is needed to unpack a server; $how"
    # The machine's own mirror, whatever it is: the first source whose release calls itself Debian.
    mirror=$(apt_targets | awk '$1 == "Debian" && $2 == "Debian" && $3 == "main" {print $4; exit}')
    [[ -n $mirror ]] || mirror=$(configured_mirror)
    [[ -n $mirror ]] || die "found no Debian mirror in this machine's apt sources; $how"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [[ -e $keyring ]] || die "$keyring is missing (package debian-archive-keyring); install it, or $how"
    tmp=$(staging "$tree")
    # apt's sandbox user must be able to write here; as root apt falls back to root by itself, with a warning.
    mkdir -p "$tmp"/apt/{etc/preferences.d,etc/apt.conf.d,etc/trusted.gpg.d,lists/partial,cache/archives/partial,dpkg} "$tmp/tree"
    : >"$tmp/apt/dpkg/status"
    echo "deb [signed-by=$keyring check-valid-until=no] $mirror $suite main" >"$tmp/apt/etc/sources.list"
    local apt=(apt-get -q -y
        -o "Dir::Etc=$tmp/apt/etc" -o "Dir::Etc::sourcelist=$tmp/apt/etc/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State=$tmp/apt" -o "Dir::State::lists=$tmp/apt/lists" -o "Dir::State::status=$tmp/apt/dpkg/status"
        -o "Dir::Cache=$tmp/apt/cache" -o APT::Install-Recommends=false -o APT::Sandbox::User=root
        -o Acquire::Languages=none -o Acquire::Retries=3 -o Debug::NoLocking=1 -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
    if ! { "${apt[@]}" update && "${apt[@]}" install --download-only "$@"; } >"$tmp/log" 2>&1; then
        tail -n 15 "$tmp/log" >&2
        rm -rf "$tmp"
        die "could not download $what from Debian $suite; is the mirror reachable? Otherwise $how"
    fi
    say "downloaded; unpacking"
    files=("$tmp"/apt/cache/archives/*.deb)
    # The libraries live under usr/lib whatever the host's layout is: debs of a merged-/usr suite say so.
    printf '%s\0' "${files[@]}" | xargs -0 -P 2 -I{} dpkg -x {} "$tmp/tree"
    mkdir -p "$(dirname "$tree")"
    rm -rf "$tree"
    mv -T "$tmp/tree" "$tree"
    rm -rf "$tmp"
    say "$what is unpacked"
}

apt_targets() { apt-get indextargets --format '$(ORIGIN) $(LABEL) $(COMPONENT) $(REPO_URI)' 2>/dev/null || true; }

# Where the lists were never fetched (a bare container), apt does not know who a source is: read the files.
configured_mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        grep -v '^[[:space:]]*#' | grep -oE '[a-z+]+://[^ ]+/debian/?( |$)' | head -n 1 | tr -d ' ' || true
}

# free_port : prints a loopback port that nobody listens on. Ports are taken from below the range that
# the kernel gives to outgoing connections, and each is reserved by a lock file for a minute, so that two
# runs at once do not choose the same one before their servers listen.
free_port() {
    local port try reserve=/tmp/theseus-ports-$UID stamp now
    mkdir -p "$reserve"
    for ((try = 0; try < 500; try++)); do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        printf -v now '%(%s)T' -1
        if ! (set -C; echo "$now" >"$reserve/$port") 2>/dev/null; then
            stamp=$(cat "$reserve/$port" 2>/dev/null || echo 0)
            ((now - ${stamp:-0} > 60)) || continue
            echo "$now" >"$reserve/$port"
        fi
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue
        printf '%s\n' "$port"
        return 0
    done
    die "found no free port on 127.0.0.1 between 20000 and 32000"
}

# wait_for SECONDS WHAT COMMAND… : polls COMMAND ten times a second until it succeeds. Fails with the name
# of what it waited for; with $WATCH_PID set, fails at once when that process is gone.
wait_for() {
    local limit=$1 what=$2 since=${EPOCHREALTIME/[.,]/}
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [[ -n ${WATCH_PID:-} ]] && ! alive "$WATCH_PID"; then
            say "error: $what ended while starting"
            return 1
        fi
        if ((${EPOCHREALTIME/[.,]/} - since > limit * 1000000)); then
            say "error: $what not ready after $limit s"
            return 1
        fi
        sleep 0.1
    done
}

# alive PID : true unless gone or a zombie that nobody has collected yet.
alive() {
    local line
    # One read, no process: this is polled.
    read -r line 2>/dev/null <"/proc/$1/stat" || return 1
    line=${line##*) }
    [[ $line != [ZX]* ]]
}

# stop_pid PID MARK [SECONDS] : TERM, then KILL after SECONDS (default 15), and returns when it is gone.
# MARK must occur in the process's command line (the data folder, say): a number that the kernel has
# given to somebody else's process meanwhile is left alone.
stop_pid() {
    local pid=$1 mark=$2 limit=${3:-15} try
    alive "$pid" || return 0
    if [[ -r /proc/$pid/cmdline ]] && ! tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -- "$mark"; then
        return 0
    fi
    kill -TERM "$pid" 2>/dev/null || return 0
    for ((try = 0; try < limit * 20; try++)); do
        alive "$pid" || return 0
        sleep 0.05
    done
    say "process $pid did not end within $limit s; killing it"
    kill -KILL "$pid" 2>/dev/null || true
    for ((try = 0; try < 100; try++)); do
        alive "$pid" || return 0
        sleep 0.05
    done
    say "error: process $pid is still running"
    return 1
}

# daemon LOG COMMAND… : starts COMMAND in a session of its own (a Ctrl-C at the terminal does not reach it:
# whoever started it stops it, in order), with our descriptors closed, and sets DAEMON_PID.
daemon() {
    local log=$1 try
    shift
    rm -f "$log.pid"
    # shellcheck disable=SC2016  # expanded by the inner shell
    setsid --fork bash -c '
        for fd in /proc/$$/fd/*; do fd=${fd##*/}; ((fd <= 2)) || eval "exec $fd>&-"; done
        echo $$ >"$1.pid.new" && mv "$1.pid.new" "$1.pid"
        shift
        exec "$@"' _ "$log" "$@" </dev/null >>"$log" 2>&1
    for ((try = 0; try < 500; try++)); do
        [[ ! -s $log.pid ]] || break
        sleep 0.01
    done
    # shellcheck disable=SC2034  # for the caller
    DAEMON_PID=$(cat "$log.pid")
    rm -f "$log.pid"
}
