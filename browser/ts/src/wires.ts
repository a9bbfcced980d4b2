// Messages between a page and its node Worker, and between tabs of an origin.
import type { ConsentState, Stats } from "./api";
import type { Job, Settings } from "./check";
import type { Wire } from "./errors";
import type { Presence } from "./idle";
import type { Asset } from "./loader";

export interface Boot {
  settings: Settings;
  wasm: { url: string; asset: Asset };
  /** Address of the task Worker's script. */
  taskWorker: string;
  consent: ConsentState;
  stopped: boolean;
  cores: number;
  presences: Presence[];
}

/** What a Worker does for a page. */
export interface Calls {
  submit: Job;
  quote: Job;
  close: null;
}

export type Method = keyof Calls;

/** Exactly one field is set. */
export interface ToNode {
  boot?: Boot;
  call?: { id: number; method: Method; args: unknown };
  presence?: Presence;
  consent?: ConsentState;
  stopped?: boolean;
}

/** What callbacks of a page hear. */
export type Event =
  | { kind: "credit"; credits: number; total: number; of: "work" | "reward" | "transfer" }
  | { kind: "task"; task: Record<string, unknown> }
  | { kind: "error"; error: Wire };

/** Exactly one field is set. */
export interface FromNode {
  reply?: { id: number; ok?: unknown; err?: Wire };
  part?: { id: number; done: number; total: number };
  stats?: Stats;
  event?: Event;
  progress?: { loaded: number; total: number };
  started?: true;
  /** It ended, or could not start. */
  down?: Wire;
}

/** Between tabs. Every message goes to all; `to` says who is meant. */
export type Between =
  | { t: "who"; from: string }
  /** The tab that runs the node; epoch is new for each one that takes over. */
  | { t: "hello"; from: string; epoch: string; stats: Stats | null }
  | { t: "bye"; from: string; epoch: string }
  | { t: "call"; from: string; epoch: string; id: number; method: Method; args: unknown }
  | { t: "ack"; to: string; epoch: string; id: number }
  | { t: "reply"; to: string; epoch: string; id: number; ok?: unknown; err?: Wire }
  | { t: "part"; to: string; epoch: string; id: number; done: number; total: number }
  | { t: "event"; epoch: string; event: Event }
  | { t: "presence"; presence: Presence }
  | { t: "stopped"; stopped: boolean }
  | { t: "consent" };
