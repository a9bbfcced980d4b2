#!/bin/sh
# Builds a Debian package around a binary: build.sh BINARY VERSION OUTDIR. The
# same binary and version give the same bytes.
set -eu
binary=$1 version=$2 out=$3
here=$(dirname "$0")
repo=$here/../../..
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-0}"
export EDGENET_DIR=/nonexistent

mkdir -p "$out"
root=$(mktemp -d "$out/package.XXXXXX")
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
put() { install -D -m "$1" "$2" "$root/$3"; }
put 755 "$binary" usr/bin/edgenetd
put 644 "$here/edgenetd.service" usr/lib/systemd/system/edgenetd.service
put 644 "$here/sysusers.conf" usr/lib/sysusers.d/edgenetd.conf
put 644 "$repo/LICENSE" usr/share/doc/edgenetd/copyright
put 644 "$repo/docs/operating.md" usr/share/doc/edgenetd/operating.md
"$binary" man "$root/usr/share/man/man1"
gzip -9n "$root"/usr/share/man/man1/*.1
for shell in bash:bash-completion/completions/edgenetd zsh:zsh/vendor-completions/_edgenetd fish:fish/vendor_completions.d/edgenetd.fish; do
	file=$root/usr/share/${shell#*:}
	mkdir -p "$(dirname "$file")"
	"$binary" completion "${shell%%:*}" >"$file"
done
put 755 "$here/postinst" DEBIAN/postinst
put 755 "$here/prerm" DEBIAN/prerm
find "$root" -type d -exec chmod 755 {} +
find "$root/usr/share" -type f -exec chmod 644 {} +
# A package's version begins with a digit.
case $version in [0-9]*) ;; *) version=0~$version ;; esac
version=$(printf %s "$version" | tr -c 'A-Za-z0-9.+~' '+')
cat >"$root/DEBIAN/control" <<CONTROL
Package: edgenetd
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: EdgeNet
Installed-Size: $(du -ks "$root/usr" | cut -f1)
Section: net
Priority: optional
Suggests: prometheus
Description: node of an EdgeNet network
 A peer-to-peer compute network: this daemon submits tasks, executes those of
 others in a sandbox, and keeps the ledger that pays for them.
CONTROL
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group -Zgzip --build "$root" "$out/edgenetd_${version}_$(dpkg --print-architecture).deb" >/dev/null
echo "$out/edgenetd_${version}_$(dpkg --print-architecture).deb"
