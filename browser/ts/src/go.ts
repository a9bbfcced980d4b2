// Go's own support code is taken from the toolchain that compiles the node.
import "go:wasm_exec";

interface Runtime {
  importObject: WebAssembly.Imports;
  /** Resolves when the program ends. */
  run(instance: WebAssembly.Instance): Promise<void>;
}

/** Runs the node's program until it ends, which it does only by a fault. */
export async function runProgram(module: WebAssembly.Module): Promise<void> {
  const go = new (globalThis as unknown as { Go: new () => Runtime }).Go();
  await go.run(await WebAssembly.instantiate(module, go.importObject));
}
