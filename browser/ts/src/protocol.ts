// Messages between a task Worker and its owner.
//
// The owner starts a dedicated Worker from task-worker.js and gives it one run
// at a time; a second run must not be sent before the first one's end.
//
//	owner                        Worker
//	{ run }                  ->
//	                         <-  { need }        only if run.bytes is missing and the
//	                                             module is not among those kept (32,
//	                                             and 6 MiB of them); the run is over: send it again, with bytes
//	                         <-  { compiled }    if the module had to be compiled; the
//	                                             owner's clock for the run starts here
//	                         <-  { progress }    any number, at most one per 50 ms
//	                         <-  { log }         any number: what the log has grown by, for
//	                                             runs that are ended; the result has all of it
//	                         <-  { result }      or { fault }: the end
//
// Every reply holds the run's id, so that answers to a run that was given up
// can be told. There is no message to cancel: terminate() the Worker and start
// another. The same ends a run of a module in plain form whose time is up, and
// a compilation that takes too long. After a fault, or an error event of the
// Worker (onerror, onmessageerror), start another Worker as well.
//
// Fuel is a number here, below 2^53: syscall/js cannot hold a BigInt. Byte
// arrays of a run are copied unless the owner transfers their buffers; those of
// a result are transferred.
//
// In Go, sandbox.Module.Metered gives moduleId (Key), bytes (Code), abi,
// startFuel and minPages; proto.TaskID.Seed gives the seed.

/** How a run ended: the wire numbers of the network. */
export const Status = {
  ok: 1,
  trap: 2,
  outOfFuel: 3,
  stackLimit: 4,
  exitNonZero: 5,
  badOutput: 6,
  // Local ones: never voted on.
  timeout: 100,
  hostOOM: 103,
} as const;

export type Status = (typeof Status)[keyof typeof Status];

export const ABI = { command: 1, reactor: 2 } as const;

/** All limits are given; the owner fills defaults. */
export interface Limits {
  /** At most 2^52, so that every sum stays an exact number. */
  fuel: number;
  /** Linear memory in bytes. */
  memory: number;
  /** Bytes. */
  output: number;
  /** Bytes. */
  log: number;
  /**
   * Milliseconds that it may work; sleep that keeps it to its share of a core
   * does not count. Only modules in sliced form look at it, between slices; the
   * owner ends all others with terminate().
   */
  wall?: number;
}

/** What the owner knows about a module after it was prepared. */
export interface Order {
  /** Names the bytes, plain and sliced form apart: the hash of the code. */
  moduleId: string;
  /** 1 command, 2 reactor. */
  abi: number;
  /** Charged before the first instruction. */
  startFuel: number;
  /** Declared minimum of the memory, in pages. */
  minPages: number;
}

export interface Run extends Order {
  /** Chosen by the owner; comes back with every answer. */
  id: number;
  /** Metered code. Without it the Worker must have run the module before, or it answers `need`. */
  bytes?: Uint8Array;
  input: Uint8Array;
  limits: Limits;
  /** 32 bytes: seed of the guest's random numbers. */
  seed: Uint8Array;
  /**
   * Share of one core in percent, 1 to 100 (default 100): the Worker sleeps
   * between slices, so it holds inside a task for modules in sliced form, and
   * between tasks for all.
   */
  cpu?: number;
  /** Fuel per slice of a sliced module; default 8,000,000, a few milliseconds. */
  slice?: number;
}

export interface Result {
  id: number;
  status: Status;
  /** Signed; of a command that ended by proc_exit. */
  exitCode: number;
  /** What is billed: below 2^53. */
  fuel: number;
  /** What a reactor returned, or a command wrote to stdout until it ended; empty with a local status. */
  output: Uint8Array;
  log: Uint8Array;
}

export interface Request {
  run: Run;
}

/** Exactly one field is set. A run ends with result, fault or need. */
export type Reply =
  | { result: Result }
  | { progress: { id: number; permille: number } }
  | { log: { id: number; bytes: Uint8Array } }
  /** The module was compiled: until then the owner's clock for compiling runs. */
  | { compiled: { id: number } }
  /** The module is not cached here: send the run again, with bytes. */
  | { need: { id: number } }
  /** The engine failed, not the guest. */
  | { fault: { id: number; message: string } };
