#!/bin/sh
# Gives a Debian base image where no registry answers: `debootstrap`, then `docker import`.
# Prints the image's name. Mirror, proxy and keys are those of this machine's own apt configuration.
#
# Usage: .ci/base-image.sh [SUITE]      (trixie by default; bookworm works too; needs root and debootstrap)
set -eu

suite=${1:-trixie}
image=dsflow-ci/debian:$suite

if docker image inspect "$image" >/dev/null 2>&1; then
    echo "$image"
    exit 0
fi

# The first archive that apt uses and that carries Debian's main section (the security archive has no full suite).
# shellcheck disable=SC2016  # the dollars are for apt-get
mirror=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(ORIGIN) $(LABEL)' 'Created-By: Packages' |
    awk '$2 == "main" && $4 == "Debian" { print $1; exit }')
if [ -z "$mirror" ]; then
    mirror=$(awk '/^URIs:/ { print $2; exit } /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) { print $i; exit } }' \
        /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null || true)
fi
[ -n "$mirror" ] || { echo "base-image.sh: apt has no Debian archive configured" >&2; exit 4; }
eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
export http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$root.log" 2>&1 || {
    tail -n 20 "$root.log" >&2
    exit 4
}
rm -f "$root.log"
# Settings of apt that a build on this machine needs as well, such as a proxy or lenient dates; certificates are
# added by dsflow's own images.
apt-config dump | grep -E '^Acquire::(http|https|ftp)::Proxy |^Acquire::Check-' >"$root/etc/apt/apt.conf.d/90machine" || true
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
tar -C "$root" -c . | docker import --change 'CMD ["bash"]' - "$image" >/dev/null
echo "$image"
