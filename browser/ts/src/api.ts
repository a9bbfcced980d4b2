// The public interface. This file imports nothing, so that its declarations
// alone are the package's edge-net.d.ts.

/**
 * What can go wrong, as a word to compare with. Codes of the network itself
 * (INSUFFICIENT_BALANCE, NO_WORKERS, TIMEOUT and so on) pass through unchanged.
 */
export type ErrorCode =
  /** An option or argument is not what the types say. */
  | "BAD_CONFIG"
  /** privateKey is not the base64 of 32 bytes. */
  | "BAD_KEY"
  /** EdgeNet.init has not been called. */
  | "NOT_INITIALISED"
  /** EdgeNet.init was called twice without disconnect. */
  | "ALREADY_INITIALISED"
  /** The node was disconnected by its page. */
  | "DISCONNECTED"
  /** Consent must follow a click or a key of the visitor. */
  | "CONSENT_NEEDS_GESTURE"
  /** No consent in a frame of another site. */
  | "CONSENT_IN_FRAME"
  /** The browser lacks something that a node needs. */
  | "UNSUPPORTED"
  /** No WebTransport, and no relay with another way in. */
  | "NO_WEBTRANSPORT"
  /** The page's Content-Security-Policy refuses WebAssembly. */
  | "CSP_WASM"
  /** The page's Content-Security-Policy refuses Workers. */
  | "CSP_WORKER"
  /** A file of this package could not be loaded. */
  | "ASSET_UNREACHABLE"
  /** A file of this package is not the one that was built with it. */
  | "ASSET_MISMATCH"
  /** Storage is blocked: the identity lives as long as the page. */
  | "STORAGE_BLOCKED"
  /** Storage is full: something could not be kept. */
  | "QUOTA"
  /** No relay answers. The node tries again by itself. */
  | "RELAY_UNREACHABLE"
  /** A relay answers, but not as a relay does. */
  | "RELAY_BAD"
  /** Relays of different networks were given. */
  | "RELAY_NETWORK"
  /** Only multiaddrs were given, and the network's genesis is not known here. */
  | "GENESIS_MISSING"
  /** This clock and a relay's differ by minutes: claims and credits would be refused. */
  | "CLOCK_SKEW"
  /** The node in the tab ended and starts again. The call may have had an effect. */
  | "NODE_CRASHED"
  /** Another tab took over the node. The call may have had an effect. */
  | "NODE_MOVED"
  /** The tab that runs the node does not answer. The call may have had an effect. */
  | "NODE_SILENT"
  | (string & {});

/** Every error that this package throws, rejects with or hands to onError. */
export class EdgeNetError extends Error {
  override readonly name = "EdgeNetError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** What the visitor gives, once there is consent. */
export interface Contribution {
  /** Share of all cores, above 0 and up to 1. Default 0.3. The visitor's consent may lower it. */
  cpuLimit?: number;
  /** Bytes for all tasks together. Default 256 MiB. */
  memoryLimit?: number;
  /** Bytes per second. Default unlimited. */
  bandwidthLimit?: number;
  /** Task types; "custom" stands for modules that are not built in. Default all. */
  tasks?: string[];
}

/** When the tab works. */
export interface Idle {
  /** Only while a tab of this origin has the focus. Default false. */
  focusRequired?: boolean;
  /** Milliseconds without input in any tab of this origin. Default 5000. */
  minIdleTime?: number;
  /** On battery: half the CPU, none below 30 %. Default true. */
  respectBattery?: boolean;
}

/** A task that this node ran for others. */
export interface TaskEvent {
  id: string;
  type: string;
  status: string;
  [field: string]: unknown;
}

export interface InitOptions {
  /** Labels the site's contributions. */
  siteId?: string;
  /** Base64 of a 32-byte seed. Without it the browser makes a key and keeps it. */
  privateKey?: string;
  contribution?: Contribution;
  idle?: Idle;
  /** Origins such as https://relay.example, or multiaddrs. At least one. */
  relays: string[];
  /**
   * What the account was paid, and its credits now. kind is "work", "reward"
   * (uptime, referrals) or "transfer". Credits that a job holds, and those that
   * come back of it, are no earnings: stats() has them.
   */
  onCredit?: (credits: number, total: number, kind: "work" | "reward" | "transfer") => void;
  onTask?: (task: TaskEvent) => void;
  /** Also warnings, such as STORAGE_BLOCKED. */
  onError?: (error: EdgeNetError) => void;
  /** Peer id of the account that earns, as `edgenetd id` prints it; default this node's own. */
  payee?: string;
  /** Base64 of genesis.pb; only needed when no relay is an origin. */
  genesis?: string;
  /** Where this package's files are; default beside the script. */
  assets?: string;
  /** Bytes of the node's program that are here, and all. */
  onProgress?: (loaded: number, total: number) => void;
}

/** Why a node does or does not work. */
export type State =
  /** Nothing was loaded yet. */
  | "idle"
  /** Loading or connecting. */
  | "starting"
  /** Takes work. */
  | "working"
  /** Connected, takes no work; reason says why. */
  | "paused"
  /** Could not start; reason says why. */
  | "failed"
  | "disconnected";

/** Credits are in credits (1 credit = 1,000,000 µcredit), times in milliseconds. */
export interface Stats {
  state: State;
  /** Why the node does not work, or works less; "" when it works as configured. */
  reason: string;
  peerId: string;
  peers: number;
  credits: number;
  /** In escrow for submitted jobs. */
  held: number;
  /** Earned and not yet settled. */
  receivable: number;
  /** Run here and accepted by their submitters. */
  tasksCompleted: number;
  tasksRun: number;
  /** Running now, here. */
  running: number;
  uptime: number;
  /** 0 to 1. */
  reputation: number;
  /** Share of all cores that tasks may use now. */
  cpu: number;
  /** The node runs in this tab, not in another one of this origin. */
  here: boolean;
}

export interface SubmitOptions {
  /** Default "normal". */
  priority?: "low" | "normal" | "high";
  /** Replicas, 1 to 7. Default 1, which is not verified. */
  redundancy?: number;
  /** Budget in credits, fee included, of all tasks of a batch that share these options. Default 10. */
  maxCredits?: number;
  /** Milliseconds for the whole job. Default 30000. Past it the error's code is TIMEOUT, or NO_WORKERS when none came. */
  timeout?: number;
  /**
   * Milliseconds that one try may run on a worker, at most timeout. Default
   * 30000, or what fuelLimit takes at 1 Gfuel per second when that is more. A
   * worker that throttles itself counts what it works, and takes up to ten times
   * as long. Past it the task is tried elsewhere; when no try is left the error's
   * code is RUN_TIMEOUT.
   */
  runTimeout?: number;
  /** Milliseconds until a worker runs some of the job, at most timeout; past it the error's code is QUEUE_TIMEOUT. */
  queueTimeout?: number;
  /** Default that of the network. */
  fuelLimit?: number;
}

/** A task of a built-in type, with its payload, or of a module, with its input. */
export interface Task {
  /** vectors, vector_search, embedding, semantic_match, encryption or text. */
  type?: string;
  payload?: unknown;
  /** WebAssembly in place of type. */
  module?: Uint8Array;
  input?: Uint8Array;
  options?: SubmitOptions;
}

/** The fields of the type's own output are beside these. */
export interface Result {
  /** Credits. Of a batch: this task's part. */
  cost: number;
  /** Peer ids of those that agreed. */
  workers: string[];
  /** At least two replicas agreed. */
  verified: boolean;
  /** Signed receipt of the first worker, for `edgenetd receipt verify`. */
  receipt?: Uint8Array;
  /** One per worker. */
  receipts: Uint8Array[];
  status: string;
  /** What the module returned, or wrote to stdout until it ended, also when it failed. */
  output: Uint8Array;
  /** What it wrote to stderr until it ended: any bytes, 64 KiB at most, of one worker and never voted on. */
  log: Uint8Array;
  fuel: number;
  /** Only in a batch: this task failed. */
  error?: EdgeNetError;
  [field: string]: any;
}

/** The results in the order of the tasks, and what became of the budget: of all maxCredits that the tasks name, one for each set of options. */
export interface Batch extends Array<Result> {
  /** Credits. */
  budget: number;
  /** Fee included; of jobs that failed altogether nothing is known. */
  spent: number;
  left: number;
}

/** What a task or batch would cost, in credits, fee included. */
export interface Quote {
  /** Put on hold at first; it grows as needed. */
  hold: number;
  /** Most that one task may cost; maxCredits must cover it. */
  task: number;
  /** Most that all may cost, never above the budget. */
  most: number;
  budget: number;
  /** The network's, for 60 Gfuel. */
  price: number;
}

export interface BatchOptions {
  onProgress?: (done: number, total: number) => void;
}

export interface ConsentState {
  given: boolean;
  /** Milliseconds since 1970; 0 without consent. */
  expires: number;
  /** The share of all cores that the visitor agreed to; 0 without consent. */
  cpuLimit: number;
}

export interface ConsentTerms {
  /** 1 to 365. Default 30. */
  days?: number;
  /** Share of all cores, above 0 and up to 1. Default 0.3. State it where the visitor clicks. */
  cpuLimit?: number;
}

export interface Consent {
  /**
   * Consent by a click on an element that says what is asked: waits for it.
   * Or by a click that was just received: pass its event.
   */
  request(options: ConsentTerms & ({ element: Element; signal?: AbortSignal } | { click: Event })): Promise<ConsentState>;
  /** Call it while the visitor's click or key is being handled. */
  grant(terms?: ConsentTerms): ConsentState;
  /** Ends all work of this origin, in every tab. */
  revoke(): void;
  state(): ConsentState;
  /** Calls back after each change, in every tab. Returns what ends that. */
  watch(changed: (state: ConsentState) => void): () => void;
}

export interface EdgeNetNode {
  /** The last known figures; at most a second old while the node runs. */
  stats(): Stats;
  /** Ends this origin's work until resume; running tasks finish. */
  pause(): void;
  resume(): void;
  /** Leaves. Another tab of this origin takes the node over. */
  disconnect(): Promise<void>;
  /** Resolves when the node runs; rejects when it cannot. Starts nothing. */
  ready(): Promise<void>;
  /**
   * A hash of coarse traits of this machine for this network, origin and week:
   * a local hint against many nodes on one machine. Computed when called and
   * sent nowhere.
   */
  uniqueness(): Promise<string>;
}

export interface API {
  readonly version: string;
  init(options: InitOptions): Promise<EdgeNetNode>;
  submit(task: Task): Promise<Result>;
  submitBatch(tasks: Task[], options?: BatchOptions): Promise<Batch>;
  /** Checks tasks as submit does and says what they would cost. Submits nothing. */
  quote(tasks: Task | Task[]): Promise<Quote>;
  readonly consent: Consent;
}
