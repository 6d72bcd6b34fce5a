#!/usr/bin/env bash
# Sets up dsflow in this checkout. It needs Python 3.11 or newer, and nothing else.
#
#   source init.sh         a shell with `dsflow` and its completion (bash and zsh)
#   bash init.sh --demo    set up, then run the sample pipeline
#   bash init.sh --test    set up, then pass the tests; what follows goes to pytest
#   bash init.sh           set up only
#
# Packages go into .venv, with uv where it is present and with pip otherwise. When .venv fits pyproject.toml already,
# nothing is installed and the network is not touched. DSFLOW_PYTHON names another Python to start from.

# ---- Sourced: this part runs in the user's own shell. It sets no option, never exits and leaves nothing behind
# but PATH and the completion; everything that can fail happens in a child process.

_dsflow_enter() {
    local root
    root=$(bash -c 'cd -- "$(dirname -- "$1")" && pwd' init.sh "$1") || return 1
    bash "$root/init.sh" --setup || return 1
    case ":$PATH:" in
        *":$root/.venv/bin:"*) ;;
        *)
            export PATH="$root/.venv/bin:$PATH"
            echo "dsflow is on PATH in this shell; \`dsflow\` lists the commands."
            ;;
    esac
    hash -r 2> /dev/null || true
    if [ -n "${ZSH_VERSION:-}" ]; then
        case $- in
            *i*) eval '(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -u; }' ;;
            *) return 0 ;;
        esac
        eval "$("$root/.venv/bin/dsflow" completion zsh 2> /dev/null)" || true
    else
        eval "$("$root/.venv/bin/dsflow" completion bash 2> /dev/null)" || true
    fi
}

_dsflow_file=""
if [ -n "${ZSH_VERSION:-}" ]; then
    case "${ZSH_EVAL_CONTEXT:-}" in
        *file*) eval '_dsflow_file=${(%):-%x}' ;;
        *) exec bash "$0" "$@" ;;
    esac
elif [ -z "${BASH_VERSION:-}" ]; then
    echo "init.sh: this shell is neither bash nor zsh; type \`bash init.sh\`." >&2
    # shellcheck disable=SC2317  # the exit is for a shell that runs the file instead of sourcing it
    return 1 2> /dev/null || exit 1
elif [ "${BASH_SOURCE[0]}" != "$0" ]; then
    _dsflow_file=${BASH_SOURCE[0]}
fi
if [ -n "$_dsflow_file" ]; then
    if _dsflow_enter "$_dsflow_file"; then
        unset -f _dsflow_enter
        unset _dsflow_file
        return 0
    fi
    unset -f _dsflow_enter
    unset _dsflow_file
    return 1
fi

# ---- Executed with bash.

set -euo pipefail
unset -f _dsflow_enter
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
root=$(pwd)
venv=$root/.venv
log=$venv/init.log

fail() { # SENTENCE: say what is missing and end
    echo "init.sh: $1" >&2
    exit 4
}

find_python() { # set `python` to the first one that is new enough
    local candidate found=""
    # shellcheck disable=SC2086  # a list of names
    for candidate in ${DSFLOW_PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
        command -v "$candidate" > /dev/null || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
            python=$candidate
            return
        fi
        found="${found:-$("$candidate" --version 2>&1 | head -n 1 || true) is too old}"
    done
    fail "Python 3.11 or newer is needed: ${found:-there is no python3 on PATH} (DSFLOW_PYTHON can name another one)."
}

make_venv() { # make .venv, unless there is one whose Python starts
    if "$venv/bin/python" -c "" 2> /dev/null; then return; fi
    find_python
    rm -rf "$venv"
    if command -v uv > /dev/null; then
        uv venv --quiet --python "$(command -v "$python")" "$venv" || fail "uv could not make $venv."
    else
        "$python" -c "import ensurepip, venv" 2> /dev/null ||
            fail "$python has no venv module; on Debian and Ubuntu: apt-get install python3-venv."
        "$python" -m venv "$venv" || fail "$python could not make $venv."
    fi
}

install() { # EXTRAS: install the checkout with some extras; the log has the details
    if command -v uv > /dev/null; then
        uv pip install --python "$venv/bin/python" --editable ".[$1]" > "$log" 2>&1 ||
            uv pip install --offline --python "$venv/bin/python" --editable ".[$1]" >> "$log" 2>&1
    else
        { "$venv/bin/python" -m pip --version || "$venv/bin/python" -m ensurepip; } > "$log" 2>&1
        "$venv/bin/python" -m pip install --retries 2 --no-input --editable ".[$1]" >> "$log" 2>&1
    fi
}

explain() { # name in one sentence what an installation lacked
    local package
    package=$(sed -nE -e 's/.*[Bb]ecause ([A-Za-z0-9_.-]+) was not found in the cache.*/\1/p' \
        -e 's/.*No matching distribution found for ([A-Za-z0-9_.-]+).*/\1/p' "$log" | tail -n 1)
    if grep -qE 'UnknownIssuer|CERTIFICATE_VERIFY_FAILED|certificate verify failed' "$log"; then
        fail "your network re-signs TLS: let SSL_CERT_FILE and PIP_CERT name its CA bundle (details in $log)."
    elif grep -qE 'dns error|ame resolution|etwork is unreachable|onnection refused|onnect(ion)? timed out|error sending request|NewConnectionError|ConnectTimeout|ProxyError' "$log"; then
        fail "the package index cannot be reached, and ${package:-a package} is not in the cache (details in $log)."
    fi
    fail "the packages could not be installed${package:+: $package was not found} (details in $log)."
}

setup() { # EXTRAS: make .venv fit pyproject.toml
    local wanted stamp="$venv/dsflow-$1.stamp"
    wanted=$({
        cat pyproject.toml setup.py
        echo "$root"
    } | cksum)
    if [ "$(cat "$stamp" 2> /dev/null)" = "$wanted" ] && "$venv/bin/python" -c "import dsflow" 2> /dev/null; then return; fi
    make_venv
    echo "Installing dsflow and its packages into .venv ..." >&2
    install "$1" || explain
    # What the tests need includes what runs need.
    echo "$wanted" | tee "$stamp" > "$venv/dsflow-dash.stamp"
}

check() { # PYTEST ARGUMENTS: lint, types, tests; pytest's closing line comes last
    "$venv/bin/ruff" check --quiet .
    "$venv/bin/mypy"
    if [ -z "${DSFLOW_REQUIRE_SERVICES:-}" ]; then
        echo "Without the tests that need Docker, PostgreSQL, Spark or a browser, or that take long: DSFLOW_REQUIRE_SERVICES=1 adds them."
        set -- -m "not docker and not postgres and not browser and not crash and not jupyter and not airflow and not spark" "$@"
    fi
    exec "$venv/bin/python" -m pytest --numprocesses auto --dist loadgroup "$@"
}

case "${1:-}" in
    "" | --setup)
        setup dash
        if [ "${1:-}" != --setup ]; then echo "dsflow is set up in .venv; \`source init.sh\` puts it on PATH."; fi
        ;;
    --demo)
        shift
        setup dash
        exec "$venv/bin/dsflow" demo "$@" "$root"
        ;;
    --test)
        shift
        setup dev
        check "$@"
        ;;
    -h | --help) sed -n '2,10 s/^# \{0,1\}//p' init.sh ;;
    *)
        echo "init.sh: unknown argument $1; \`bash init.sh --help\` lists what there is." >&2
        exit 2
        ;;
esac
