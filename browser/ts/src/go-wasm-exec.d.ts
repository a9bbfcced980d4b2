// The build resolves it in the Go toolchain.
declare module "go:wasm_exec";
