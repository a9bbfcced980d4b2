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
  /** What the log has grown by: the run may be ended before it can give a result. */
  log(bytes: Uint8Array): void;
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
  const guest = new Guest(run, host.progress, host.log);
  const end = (status: Status, fuel: number, output: Uint8Array = new Uint8Array(0), exitCode = 0): Result => ({
    id: run.id,
    status,
    exitCode,
    fuel,
    output,
    log: guest.log.bytes(),
  });
  // The end of a run by the module's own doing. left is what the counter says:
  // after a trap, what was left when it was stored last. A guest that runs out
  // of fuel has used its limit.
  const ended = (status: Status, left: number, output: Uint8Array, exitCode = 0): Result => {
    if (status !== Status.outOfFuel) left -= copyFuel(output.length);
    if (status === Status.outOfFuel || left < 0) {
      if (run.abi === ABI.reactor) output = new Uint8Array(0); // an answer that was not paid for
      if (status === Status.ok || status === Status.exitNonZero || status === Status.badOutput) status = Status.outOfFuel;
      left = 0;
    }
    return end(status, limit - left, output, status === Status.exitNonZero ? exitCode : 0);
  };

  const pages = Math.min(Math.floor(run.limits.memory / pageSize), 65_536);
  let reserve = limit - run.startFuel - copyFuel(run.input.length);
  if (reserve < 0) return end(Status.outOfFuel, limit);
  if (run.minPages > pages) return ended(Status.trap, reserve, new Uint8Array(0));

  const slice = run.slice ?? defaultSlice;
  const imports = guest.imports();
  imports[hostModule] = {
    refuel: (left: bigint): bigint => {
      if (host.pause()) throw new Stopped();
      const add = Math.min(reserve, Math.max(slice, slice - Number(left)));
      reserve -= add;
      // The guest counts on in a local and the global keeps what it held, so
      // that a trap finds the same there as without slices.
      fuel.value += BigInt(add);
      return left + BigInt(add);
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
  try {
    (exports[startExport] as (() => void) | undefined)?.();
    if (run.abi === ABI.command) {
      exports._start();
    } else {
      output = react(exports, guest, run);
    }
  } catch (e) {
    if (e instanceof Exit) {
      exitCode = e.code;
      if (exitCode !== 0) status = Status.exitNonZero;
    } else if (e instanceof BadOutput) {
      status = Status.badOutput;
    } else if (e instanceof Stopped) {
      return end(Status.timeout, limit - Math.max(0, remaining()));
    } else if (e instanceof Abort || e instanceof Spent || e instanceof WebAssembly.RuntimeError) {
      // The engine could not grow the memory as far as the guest may: local.
      if (ceiling.value === -1) return end(Status.hostOOM, 0);
      if (depth.value < 0) status = Status.stackLimit;
      else status = remaining() < 0 ? Status.outOfFuel : Status.trap;
    } else if (e instanceof RangeError || (e instanceof Error && e.name === "InternalError")) {
      // The engine's own stack or heap gave out within the guest's limits.
      // Others may have more: nothing to vote on.
      return end(Status.hostOOM, 0);
    } else {
      throw e;
    }
  }
  if (run.abi === ABI.command) output = guest.stdout.bytes();
  return ended(status, remaining(), output, exitCode);
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
