# shellcheck shell=bash
# What the findings share: a private folder, real servers in it, and the comparison with what was seen. Source it.
#
# A finding prints what it sees through `see`. The lines of its header comment that begin with `#> ` are what
# was seen when it was written: `verdict` compares the two and fails when a line differs.
#
# FINDINGS_PARTS=FOLDER keeps downloaded parts there, for running many findings one after the other;
# without it each finding downloads what it needs into its own folder and removes it at the end.

set -euo pipefail

FINDING=$(basename "$0" .sh)
WORK=$(mktemp -d "${TMPDIR:-/tmp}/finding-XXXXXX")
PARTS=${FINDINGS_PARTS:-$WORK/parts}
mkdir -p "$PARTS"
: >"$WORK/seen"
STARTED=()
declare -A PORT=()

say() { printf '%s: %s\n' "$FINDING" "$*" >&2; }

die() {
    say "could not be run: $*"
    exit 2
}

need() {
    local tool
    for tool in "$@"; do command -v "$tool" >/dev/null || die "needs $tool on the PATH"; done
}

finish() {
    local status=$? pid
    trap - EXIT
    for pid in "${STARTED[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${STARTED[@]}"; do wait "$pid" 2>/dev/null || true; done
    # Go keeps its module cache read-only.
    chmod -R u+w "$WORK" 2>/dev/null || true
    rm -rf "$WORK"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# see LABEL [TEXT…] : one observation; without TEXT it is read from stdin.
see() {
    local label=$1 text
    shift
    if (($#)); then text=$*; else text=$(cat); fi
    printf '%s: %s\n' "$label" "$text" | tee -a "$WORK/seen"
}

# Compares what was seen with the `#> ` lines of the script.
verdict() {
    if sed -n 's/^#> //p' "$0" | diff --label 'was seen' --label 'is seen now' -u - "$WORK/seen"; then
        say 'still behaves as written'
    else
        say 'BEHAVES DIFFERENTLY NOW'
        exit 1
    fi
}

# wait_for SECONDS WHAT COMMAND… : until the command succeeds.
wait_for() {
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < until)) || die "waited too long for $what"
        sleep 0.1
    done
}

free_port() {
    local port
    for _ in {1..50}; do
        port=$((10000 + RANDOM % 20000))
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
    die 'found no free port'
}

# --- Debian packages, unpacked without root ---------------------------------------------------------------

# unpack NAME SUITE PACKAGE[=VERSION]… : the packages of that suite, with what they depend on, in $PARTS/NAME.
# A private apt root is used: the machine's own packages and lists stay as they are.
unpack() {
    local name=$1 suite=$2 apt tmp mirror
    shift 2
    [[ ! -d $PARTS/$name ]] || return 0
    need apt-get dpkg
    mirror=$(apt-get indextargets --format '$(ORIGIN) $(LABEL) $(COMPONENT) $(REPO_URI)' 2>/dev/null |
        awk '$1 == "Debian" && $2 == "Debian" && $3 == "main" {print $4; exit}')
    [[ -n $mirror ]] || die "finds no Debian mirror among this machine's apt sources"
    say "downloads $* of Debian $suite, and unpacks it"
    tmp=$WORK/apt-$name
    mkdir -p "$tmp"/{etc/preferences.d,etc/apt.conf.d,etc/trusted.gpg.d,lists/partial,cache/archives/partial,tree}
    : >"$tmp/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=no] $mirror $suite main" >"$tmp/etc/sources.list"
    apt=(apt-get -q -y -o "Dir::Etc=$tmp/etc" -o "Dir::Etc::sourcelist=$tmp/etc/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State=$tmp" -o "Dir::State::lists=$tmp/lists" -o "Dir::State::status=$tmp/status"
        -o "Dir::Cache=$tmp/cache" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Install-Recommends=false
        -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3 -o Debug::NoLocking=1)
    if ! { "${apt[@]}" update && "${apt[@]}" install --download-only "$@"; } >"$tmp/log" 2>&1; then
        tail -n 5 "$tmp/log" >&2
        die "apt could not get $* of Debian $suite"
    fi
    local deb
    for deb in "$tmp"/cache/archives/*.deb; do dpkg -x "$deb" "$tmp/tree"; done
    mv -T "$tmp/tree" "$PARTS/$name" 2>/dev/null || [[ -d $PARTS/$name ]] || die "could not keep $PARTS/$name"
    rm -rf "$tmp"
}

# tree_command NAME PROGRAM : sets TREE to the command that runs it with that tree's own loader and libraries.
TREE=()
tree_command() {
    local tree=$PARTS/$1 loader libraries
    for loader in "$tree"/usr/lib64/ld-linux* "$tree"/lib64/ld-linux* "$tree"/lib/ld-linux* "$tree"/usr/lib/ld-linux*; do
        [[ ! -e $loader ]] || break
    done
    libraries=$(printf '%s:' "$tree"/usr/lib/*-linux-gnu "$tree"/lib/*-linux-gnu)
    TREE=("$loader" --library-path "${libraries%:}" "$tree/$2")
}

# in_tree NAME PROGRAM ARGUMENTS… : runs it. Not for the background: its process would be a shell's child, and stay when the shell is ended.
in_tree() {
    tree_command "$1" "$2"
    shift 2
    "${TREE[@]}" "$@"
}

# --- MySQL ------------------------------------------------------------------------------------


# mysql_server NAME [MYSQLD-OPTIONS] : a MySQL 9.7.4 of its own, with a row-based log and GTIDs.
mysql_server() {
    local name=$1
    shift
    unpack mysql-9.7.4 sid mysql-server-core=9.7.4-2 mysql-client-core=9.7.4-2
    local tree=$PARTS/mysql-9.7.4
    local places=("--basedir=$tree/usr" "--lc-messages-dir=$tree/usr/share/mysql" --mysqlx=OFF --secure-file-priv=NULL --innodb-use-native-aio=OFF
        "--character-sets-dir=$tree/usr/share/mysql/charsets" "--plugin-dir=$tree/usr/lib/mysql/plugin")
    [[ $EUID -ne 0 ]] || places+=(--user=root)
    mkdir -p "$WORK/$name"
    PORT[$name]=$(free_port)
    say "starts MySQL 9.7.4 on port ${PORT[$name]} $*"
    in_tree mysql-9.7.4 usr/sbin/mysqld --no-defaults "${places[@]}" --initialize-insecure --skip-log-bin \
        --datadir="$WORK/$name/data" >"$WORK/$name/log" 2>&1 || die "mysqld made no data folder: $(grep -m 1 ERROR "$WORK/$name/log")"
    tree_command mysql-9.7.4 usr/sbin/mysqld
    "${TREE[@]}" --no-defaults "${places[@]}" --datadir="$WORK/$name/data" --port="${PORT[$name]}" \
        --bind-address=127.0.0.1 --socket="$WORK/$name/s" --pid-file="$WORK/$name/pid" --tmpdir="$WORK/$name" \
        --server-id="${PORT[$name]}" --log-bin=binlog --gtid-mode=ON --enforce-gtid-consistency=ON --sync-binlog=0 \
        --innodb-flush-log-at-trx-commit=2 --innodb-buffer-pool-size=64M --innodb-redo-log-capacity=16M "$@" \
        >"$WORK/$name/log" 2>&1 &
    STARTED+=($!)
    wait_for 60 "mysqld, of whose log this is the end: $(tail -n 3 "$WORK/$name/log")" sql "$name" "SELECT 1"
}

# sql NAME STATEMENTS : as root; rows with tabs and no names, errors among them, and goes on after an error.
sql() {
    local server=$1 tree=$PARTS/mysql-9.7.4
    shift
    [[ -S $WORK/$server/s ]] || return 1
    in_tree mysql-9.7.4 usr/bin/mysql --no-defaults --socket="$WORK/$server/s" --user=root --batch --skip-column-names --raw \
        --force --default-character-set=utf8mb4 "--character-sets-dir=$tree/usr/share/mysql/charsets" \
        "--plugin-dir=$tree/usr/lib/mysql/plugin" "${@:2}" <<<"$1" 2>&1
}

# session NAME SERVER : a client that stays connected, for `tell`.
declare -A ASK=()
session() {
    local name=$1 server=$2 tree=$PARTS/mysql-9.7.4 fd
    mkfifo "$WORK/in-$name"
    tree_command mysql-9.7.4 usr/bin/mysql
    "${TREE[@]}" --no-defaults --socket="$WORK/$server/s" --user=root --batch --skip-column-names --raw \
        --force --unbuffered "--character-sets-dir=$tree/usr/share/mysql/charsets" "--plugin-dir=$tree/usr/lib/mysql/plugin" \
        <"$WORK/in-$name" >"$WORK/out-$name" 2>&1 &
    STARTED+=($!)
    exec {fd}>"$WORK/in-$name"
    ASK[$name]=$fd
}

# tell NAME STATEMENTS : in that session; prints what came back when all of them are done.
TOLD=0
tell() {
    local before
    TOLD=$((TOLD + 1))
    before=$(wc -l <"$WORK/out-$1")
    printf '%s;\nSELECT "told %s";\n' "$2" "$TOLD" >&"${ASK[$1]}"
    wait_for 60 "session $1 to finish: $2" grep -qx "told $TOLD" "$WORK/out-$1"
    tail -n "+$((before + 1))" "$WORK/out-$1" | grep -vx "told $TOLD" || true
}

# runs NAME TEXT : is a statement with this text waiting or running on that server?
runs() {
    [[ $(sql "$1" "SELECT COUNT(*) FROM performance_schema.processlist WHERE info LIKE '$2%'") != 0 ]]
}

# The zone Europe/Berlin for that server, from this machine's zone files.
load_zone() {
    [[ -e /usr/share/zoneinfo/Europe/Berlin ]] || die 'needs /usr/share/zoneinfo (Debian: tzdata)'
    { echo 'USE mysql;' && in_tree mysql-9.7.4 usr/bin/mysql_tzinfo_to_sql /usr/share/zoneinfo/Europe/Berlin Europe/Berlin 2>/dev/null; } >"$WORK/zone.sql"
    sql "$1" "$(cat "$WORK/zone.sql")" >/dev/null
}

# rows_of_log NAME OPTIONS… : reads that server's first log file, as rows in pseudo-SQL.
rows_of_log() {
    local server=$1
    shift
    in_tree mysql-9.7.4 usr/bin/mysqlbinlog --no-defaults --verbose --base64-output=decode-rows --read-from-remote-server \
        --socket="$WORK/$server/s" --user=root "$@" binlog.000001 2>&1
}

# --- Python -----------------------------------------------------------------------------------------------

# python_with PACKAGE==VERSION… : a virtual environment with them; $PYTHON is its interpreter.
python_with() {
    need python3
    say "installs $* from the Python package index"
    python3 -m venv "$WORK/venv" || die 'python3 makes no virtual environment (Debian: python3-venv)'
    PYTHON=$WORK/venv/bin/python
    "$PYTHON" -m pip --quiet --disable-pip-version-check install "$@" >&2 || die "pip could not install $*"
}

# --- Go ---------------------------------------------------------------------------------------------------

# go_program MODULE@VERSION… <main.go : builds it in a module of its own that needs just these; it is $WORK/go/program.
go_program() {
    need go
    local module
    mkdir -p "$WORK/go"
    cat >"$WORK/go/main.go"
    say "builds a program with $* (minutes, where Go has not built them before)"
    (
        cd "$WORK/go"
        export GOFLAGS=-buildvcs=false GOWORK=off
        go mod init finding
        for module in "$@"; do go mod edit "-require=$module"; done
        go mod tidy
        go build -o program .
    ) >"$WORK/go/log" 2>&1 || die "go could not build it: $(tail -n 3 "$WORK/go/log")"
}
