// What the Go side and this side of the node Worker are to each other.
import type { Executed, Execution } from "./pool";

export interface StartConfig {
  genesis: Uint8Array;
  seed: Uint8Array;
  bootstrap: string[];
  /** Name of the IndexedDB database; empty when storage is blocked. */
  db: string;
  site?: string;
  payee?: string;
  types: string[];
  slots: number;
  /** Bytes per task. */
  memory: number;
  /** Percent of one core that a task gets. */
  taskPercent: number;
  /** Bytes per second. */
  bandwidth?: number;
  /** Takes work from the start; pause and resume change it. */
  work: boolean;
}

export interface GoTask {
  type?: string;
  module?: Uint8Array;
  input?: Uint8Array;
  /** JSON of the built-in type. */
  payload?: string;
}

export interface GoJob {
  tasks: GoTask[];
  redundancy: number;
  maxMicro: string;
  priority: number;
  timeoutMs: number;
  runTimeoutMs?: number;
  queueTimeoutMs?: number;
  fuelLimit?: string;
}

export interface GoResult {
  status: string;
  output: Uint8Array;
  log: Uint8Array;
  json?: string;
  verified: boolean;
  workers: string[];
  receipts: Uint8Array[];
  costMicro: string;
  fuel: string;
  error?: { code: string; message: string };
}

export interface GoQuote {
  holdMicro: string;
  taskMicro: string;
  mostMicro: string;
  budgetMicro: string;
  priceMicro: string;
}

export interface GoStats {
  peerId: string;
  peers: number;
  creditsMicro: string;
  heldMicro: string;
  receivableMicro: string;
  tasksRun: number;
  tasksAccepted: number;
  running: number;
  paused: string;
  uptimeMs: number;
  reputationPpm: number;
}

/** globalThis.edgenetNode, set by Go. */
export interface GoNode {
  start(config: StartConfig): Promise<{ peerId: string }>;
  submit(job: GoJob, progress?: (done: number, total: number) => void): Promise<{ costMicro: string; results: GoResult[] }>;
  quote(job: GoJob): Promise<GoQuote>;
  /** Null before start. */
  stats(): GoStats | null;
  pause(reason: string): Promise<void>;
  resume(): Promise<void>;
  limits(l: { slots?: number; taskPercent?: number }): Promise<void>;
  relays(addrs: string[]): Promise<void>;
  disconnect(): Promise<void>;
  /** After a collection; for tests and benchmarks. */
  memory?(): Promise<{ heapBytes: number; systemBytes: number; goroutines: number }>;
}

/** globalThis.edgenetHost, set before Go starts. */
export interface Host {
  ready(): void;
  event(kind: string, json: string): void;
  execute(e: Execution): Promise<Executed>;
  cancel(id: number): void;
  resolve(): Promise<string[]>;
}
