# shellcheck shell=bash
# The programs that building and testing need: finds them, gets what is missing, or says in one sentence what to install.
# Source it after lib.sh. As root, or where sudo lets us, Debian's packages are installed by apt; Rust comes from wherever it is to be had.

# The oldest Rust that compiles this.
RUST=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
# Rust from Debian sid, unpacked like hack/mysql's server, for machines whose own is too old. Raise when what goes in changes.
RUST_TREE=$CACHE/rust/debian-sid-1

# get_tools build|demo|test : the purpose says what is needed. Changes the PATH where that is what it takes.
get_tools() {
    # program:package. The C compiler is for the `ring` crate and for linking, go for the control plane's programs, openssl for its keys.
    local pair missing=() needed=(cc:build-essential git:git)
    [[ $1 == build ]] || needed+=(flock:util-linux setsid:util-linux openssl:openssl go:golang-go)
    [[ $1 != test ]] || needed+=(shellcheck:shellcheck)
    for pair in "${needed[@]}"; do
        have "${pair%%:*}" || [[ " ${missing[*]} " == *" ${pair#*:} "* ]] || missing+=("${pair#*:}")
    done
    [[ -e /etc/ssl/certs/ca-certificates.crt ]] || missing+=(ca-certificates)
    if ((${#missing[@]})); then
        have apt-get || die "this machine lacks ${missing[*]} (as Debian calls them): install them, then run this again"
        as_root || die "this machine lacks ${missing[*]}, and only root may install them (apt-get install ${missing[*]}); run this again afterwards"
        say "installing with apt: ${missing[*]}"
        apt_install "${missing[@]}" || die "apt could not install ${missing[*]}; its last lines are above"
    fi
    get_rust "$1"
}

# --- Debian's packages --------------------------------------------------------------------------------------

# Sets AS_ROOT, what makes the command behind it root's; fails where nothing does.
as_root() {
    AS_ROOT=()
    [[ $EUID -ne 0 ]] || return 0
    have sudo || return 1
    # Where somebody sits at a terminal, sudo may ask for the password.
    if sudo -n true 2>/dev/null; then AS_ROOT=(sudo -n); elif [[ -t 0 && -t 2 ]]; then AS_ROOT=(sudo); else return 1; fi
}

LISTS_FRESH=
# Installs, or fails where there is no apt or no right to use it.
apt_install() {
    local log
    have apt-get && as_root || return 1
    log=$(mktemp)
    if [[ -z $LISTS_FRESH ]]; then
        # A third-party source that cannot be reached is no reason to stop: the install below will tell.
        "${AS_ROOT[@]}" apt-get update -q >"$log" 2>&1 || true
        LISTS_FRESH=1
    fi
    if ! "${AS_ROOT[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >>"$log" 2>&1; then
        tail -n 5 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# --- Rust ---------------------------------------------------------------------------------------------------

# at_least VERSION MINIMUM
at_least() { [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]; }
rust_fits() { have cargo && have rustc && at_least "$(rustc --version 2>/dev/null | cut -d ' ' -f 2)" "$RUST"; }
can_lint() { cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1; }
candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: \([0-9][0-9.]*\).*/\1/p'; }

get_rust() {
    local purpose=$1
    # What rustup has installed for this user, in a shell that was started before that.
    # shellcheck disable=SC1091
    [[ ! -e ${CARGO_HOME:-$HOME/.cargo}/env ]] || . "${CARGO_HOME:-$HOME/.cargo}/env"
    [[ ! -e $RUST_TREE/ready ]] || rust_fits || PATH=$RUST_TREE/programs:$PATH
    rust_fits || rust_by_apt || rust_by_rustup || rust_unpacked ||
        die "needs Rust $RUST or newer (found: $(rustc --version 2>/dev/null || echo none)): install it by rustup (https://rustup.rs), then run this again"
    [[ $purpose != test ]] || can_lint || {
        say "installing rustfmt and clippy"
        { have rustup && rustup component add rustfmt clippy; } || apt_install rustfmt rust-clippy || true
        can_lint || die "needs rustfmt and clippy beside $(command -v cargo): install them, then run this again"
    }
}

rust_by_apt() {
    local version
    version=$(candidate rustc)
    [[ -n $version ]] && at_least "$version" "$RUST" || return 1
    say "installing Rust $version with apt"
    apt_install rustc cargo rustfmt rust-clippy && rust_fits
}

rust_by_rustup() {
    have rustup || return 1
    say "installing Rust with rustup"
    # Not rustup itself: one that is on the PATH and was installed for another user cannot be updated, and says so with a stack trace.
    rustup toolchain install stable --no-self-update --profile minimal --component rustfmt --component clippy && rustup default stable && rust_fits
}

rust_unpacked() {
    have apt-get || return 1
    # A subshell: its `die` says why not, and the sentence after it what to do.
    (locked rust unpack_rust) || return 1
    PATH=$RUST_TREE/programs:$PATH
    hash -r
    rust_fits
}

unpack_rust() {
    [[ ! -e $RUST_TREE/ready ]] || return 0
    local program file libs loader
    say "no Rust $RUST here: unpacking it from Debian sid into $RUST_TREE (about 150 MB to download, once; the system is not changed)"
    unpack_debian "$RUST_TREE" sid Rust 'install it by rustup (https://rustup.rs)' rustc cargo rustfmt rust-clippy patchelf
    libs=$(echo "$RUST_TREE"/usr/lib/*-linux-gnu)
    for loader in "$RUST_TREE"/usr/lib64/ld-linux-x86-64.so.2 "$RUST_TREE"/usr/lib/ld-linux-aarch64.so.1; do [[ ! -e $loader ]] || break; done
    # They shall run with the libraries that they were made for, wherever they are called from: cargo calls itself, clippy and rustc by path.
    cp "$RUST_TREE/usr/bin/patchelf" "$RUST_TREE/patchelf"
    local patch=("$loader" --library-path "$libs" "$RUST_TREE/patchelf" --force-rpath --set-rpath "$libs")
    mkdir -p "$RUST_TREE/programs"
    for program in rustc rustdoc cargo rustfmt cargo-fmt cargo-clippy clippy-driver; do
        "${patch[@]}" --set-interpreter "$loader" "$RUST_TREE/usr/bin/$program"
        ln -sf "../usr/bin/$program" "$RUST_TREE/programs/$program"
    done
    # A library with a path of its own does not ask the program's.
    for file in "$libs"/librustc_driver-*.so "$libs"/libLLVM.so.*; do
        "${patch[@]}" "$(readlink -f "$file")"
    done
    # The compiler and headers of sid, which came along: linking is the machine's own cc's.
    rm -rf "$RUST_TREE"/usr/{lib/gcc,libexec/gcc,include} "${RUST_TREE:?}/usr/share"
    "$RUST_TREE/programs/rustc" --version >"$RUST_TREE/ready.new"
    mv "$RUST_TREE/ready.new" "$RUST_TREE/ready"
}
