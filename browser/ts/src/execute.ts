import { Abort, BadOutput, Exit, Guest, type Instance, Spent } from "./guest";
import { ABI, type Result, type Run, Status } from "./protocol";

// Names that the rewriter adds to a module.
const hostModule = "edgenet:host";
const fuelExport = "edgenet:fuel";
const depthExport = "edgenet:depth";
const pagesExport = "edgenet:pages";
const startExport = "edgenet:start";

const depthLimit = 16_384;
const pageSize = 65_536;
const defaultSlice = 8_000_000;

/** A compiled module. */
export interface Code {
  module: WebAssembly.Module;
  /** The module asks for each slice of fuel. */
  sliced: boolean;
}

/** Compiles metered code; throws WebAssembly.CompileError. */
export function compile(bytes: Uint8Array): Code {
  const module = new WebAssembly.Module(bytes as BufferSource);
  return { module, sliced: WebAssembly.Module.imports(module).some((i) => i.module === hostModule) };
}

/** What the Worker does for a run. */
export interface Host {
  progress(permille: number): void;
  /** Between two slices; true stops the run with status timeout. */
  pause(): boolean;
}

class Stopped {}

/** The price of handing n bytes to a guest or taking them back. */
const copyFuel = (n: number): number => n >>> 3;

interface Exports extends Record<string, unknown> {
  memory: WebAssembly.Memory;
  _start(): void;
  _initialize?: unknown;
  edgenet_alloc(size: number): number;
  execute(at: number, size: number): bigint;
}

/**
 * Runs a module once, in a fresh instance. Throws when the engine fails, not
 * the guest.
 */
export function execute(code: Code, run: Run, host: Host): Result {
  const limit = run.limits.fuel;
  const guest = new Guest(run, host.progress);
  const end = (status: Status, fuel: number, output: Uint8Array = new Uint8Array(0), exitCode = 0): Result => ({
    id: run.id,
    status,
    exitCode,
    fuel,
    output,
    log: guest.log.bytes(),
  });
  // A run whose fuel cannot be read exactly: the whole limit is billed.
  const trapped = (status: Status): Result => end(status, limit);

  const pages = Math.min(Math.floor(run.limits.memory / pageSize), 65_536);
  let reserve = limit - run.startFuel - copyFuel(run.input.length);
  if (reserve < 0) return trapped(Status.outOfFuel);
  if (run.minPages > pages) return trapped(Status.trap);

  const slice = run.slice ?? defaultSlice;
  const imports = guest.imports();
  imports[hostModule] = {
    refuel: (left: bigint): bigint => {
      if (host.pause()) throw new Stopped();
      const add = Math.min(reserve, Math.max(slice, slice - Number(left)));
      reserve -= add;
      // The guest keeps its counter in a local: without this, a trap before it
      // is stored would leave an old one, from before the reserve was drawn on.
      return (fuel.value = left + BigInt(add));
    },
  };
  let exports: Exports;
  try {
    exports = new WebAssembly.Instance(code.module, imports as WebAssembly.Imports).exports as unknown as Exports;
  } catch (e) {
    // no memory for the instance; segments fit, the module was read for that
    if (e instanceof RangeError) return end(Status.hostOOM, 0);
    throw e;
  }
  const fuel = exports[fuelExport] as Instance["fuel"];
  const depth = exports[depthExport] as WebAssembly.Global<"i32">;
  depth.value = depthLimit;
  const ceiling = exports[pagesExport] as WebAssembly.Global<"i32">;
  ceiling.value = pages;
  const first = code.sliced ? Math.min(reserve, slice) : reserve;
  reserve -= first;
  fuel.value = BigInt(first);
  const remaining = (): number => Number(fuel.value) + reserve;
  guest.attach({ memory: exports.memory, fuel, remaining });

  let status: Status = Status.ok;
  let exitCode = 0;
  let output: Uint8Array = new Uint8Array(0);
  let started = false; // _start was called
  try {
    (exports[startExport] as (() => void) | undefined)?.();
    if (run.abi === ABI.command) {
      started = true;
      exports._start();
      output = guest.stdout.bytes();
    } else {
      output = react(exports, guest, run);
    }
  } catch (e) {
    if (e instanceof Exit) {
      exitCode = e.code;
      if (exitCode !== 0) status = Status.exitNonZero;
      if (run.abi === ABI.command) output = guest.stdout.bytes();
    } else if (e instanceof BadOutput) {
      status = Status.badOutput;
      if (started) output = guest.stdout.bytes(); // paid for, not delivered
    } else if (e instanceof Stopped) {
      return end(Status.timeout, 0);
    } else if (e instanceof Abort || e instanceof Spent || e instanceof WebAssembly.RuntimeError) {
      // The engine could not grow the memory as far as the guest may: local.
      if (ceiling.value === -1) return end(Status.hostOOM, 0);
      if (depth.value < 0) return trapped(Status.stackLimit);
      return trapped(remaining() < 0 ? Status.outOfFuel : Status.trap);
    } else if (e instanceof RangeError || (e instanceof Error && e.name === "InternalError")) {
      // The engine's own stack or heap gave out within the guest's limits.
      // Others may have more: nothing to vote on.
      return end(Status.hostOOM, 0);
    } else {
      throw e;
    }
  }
  const left = remaining() - copyFuel(output.length);
  if (left < 0) return trapped(Status.outOfFuel);
  if (status === Status.badOutput) output = new Uint8Array(0);
  return end(status, limit - left, output, exitCode);
}

/** Drives a reactor and copies its output. */
function react(exports: Exports, guest: Guest, run: Run): Uint8Array {
  if (typeof exports._initialize === "function") exports._initialize();
  const at = exports.edgenet_alloc(run.input.length) >>> 0;
  const into = guest.range(at, run.input.length);
  if (!into) throw new Abort();
  into.set(run.input);
  const packed = BigInt.asUintN(64, exports.execute(at, run.input.length));
  const size = Number(packed & 0xffffffffn);
  const from = guest.range(Number(packed >> 32n), size);
  if (!from || size > run.limits.output) throw new BadOutput();
  return from.slice();
}
