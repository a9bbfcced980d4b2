#!/bin/sh
# Installs what the checks need and the machine lacks. Safe to run again: with
# everything there it does nothing. Arguments name extra Debian packages in the
# form command:package.
set -eu

missing=""
want() {
	command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

for tool in go gcc make git; do
	command -v "$tool" >/dev/null 2>&1 || {
		echo "setup: $tool is not installed; install it first (Go: the version in go.mod or newer)" >&2
		exit 1
	}
done

# The built-in modules are rebuilt from their C sources and compared.
want clang clang
want wasm-ld lld
# The browser's side of the sandbox runs in Node and in a real browser.
want node nodejs
# A router that maps many machines to one address, for a test in namespaces.
want nft nftables
want npm npm
want chromium chromium
# promtool checks what a daemon says of itself. The server in its package is not
# wanted: see the end of this file.
want promtool prometheus
for extra in "$@"; do
	want "${extra%%:*}" "${extra#*:}"
done

[ -n "$missing" ] || exit 0

sudo=""
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		echo "setup: please install these Debian packages as root:$missing" >&2
		exit 1
	fi
	sudo="sudo"
fi
if ! command -v apt-get >/dev/null 2>&1; then
	echo "setup: no apt-get here; please install what gives you:$missing" >&2
	exit 1
fi

echo "setup: installing$missing" >&2
$sudo apt-get update -qq
# shellcheck disable=SC2086 # a list of package names
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
case " $missing " in
*" prometheus "*)
	[ ! -d /run/systemd/system ] || $sudo systemctl disable --quiet --now prometheus.service
	;;
esac
