#!/bin/sh
# Builds the built-in modules from src/ into the directory given (default: this
# one). Needs Debian's clang and lld (apt-get install clang lld). The same
# compiler version gives the same bytes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "${1:-$here}" && pwd)
cd "$here/src"
for name in text vector; do
	clang --target=wasm32 -std=c11 -O2 -flto -ffreestanding -nostdlib -fvisibility=hidden \
		-msimd128 -mbulk-memory -msign-ext -mnontrapping-fptoint -Wall -Wextra -Werror \
		-Wl,--no-entry -Wl,--strip-all -Wl,--lto-O2 -Wl,-z,stack-size=65536 \
		-o "$out/$name.wasm" "$name.c"
	chmod 644 "$out/$name.wasm"
done
{ clang --version | head -1; wasm-ld --version; } >"$out/TOOLCHAIN"
cd "$out" && sha256sum text.wasm vector.wasm >SHA256SUMS
