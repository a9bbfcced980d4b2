// Task Workers of a node: who runs what, and what happens when one fails.
import { type Reply, type Request, type Result, type Run, Status } from "./protocol";
import { Sink } from "./sink";

/** What the node asks for. */
export interface Execution {
  id: number;
  /** Names the code: the hash of the metered module. */
  key: string;
  /** Null when this side was given the code before. */
  code: Uint8Array | null;
  input: Uint8Array;
  /** Decimal. */
  fuel: string;
  memory: number;
  output: number;
  log: number;
  wallMs: number;
  seed: Uint8Array;
  abi: number;
  startFuel: number;
  minPages: number;
  progress?: (permille: number) => void;
}

/** Statuses by the names that the network's own code gives them. */
export type StatusName =
  | "ok"
  | "trap"
  | "out-of-fuel"
  | "stack-limit"
  | "exit-non-zero"
  | "bad-output"
  | "timeout"
  | "compile-timeout"
  | "killed"
  | "host-oom"
  | "cancelled";

export interface Executed {
  status: StatusName;
  exitCode: number;
  output: Uint8Array;
  /** Decimal. */
  fuel: string;
  log: Uint8Array;
  needCode?: true;
  /** Why a local status came about. */
  message?: string;
}

const names: Record<Status, StatusName> = {
  [Status.ok]: "ok",
  [Status.trap]: "trap",
  [Status.outOfFuel]: "out-of-fuel",
  [Status.stackLimit]: "stack-limit",
  [Status.exitNonZero]: "exit-non-zero",
  [Status.badOutput]: "bad-output",
  [Status.timeout]: "timeout",
  [Status.hostOOM]: "host-oom",
};

/** A task Worker; answers come through the two hooks. */
export interface TaskWorker {
  onreply: (reply: Reply) => void;
  onfail: (message: string) => void;
  post(request: Request): void;
  terminate(): void;
}

export interface PoolConfig {
  spawn(): TaskWorker;
  slots: number;
  /** Percent of one core for each Worker. */
  cpu: number;
  changed?(running: number): void;
  timer?: { set(f: () => void, ms: number): unknown; clear(t: unknown): void };
}

/** Milliseconds after which a module that does not compile is given up. */
const compileTimeout = 10_000;

/** How much longer than its limit a throttled run may take at most: proto.MaxStretch. */
const maxStretch = 10;

/** Milliseconds after which a Worker without work is ended, for its memory. */
const lingering = 30_000;

/** Code kept for Workers that have not seen it, in bytes. */
const codeCap = 32 << 20;

/** Runs that may wait for a Worker, per slot. */
const waiting = 64;

interface Slot {
  worker: TaskWorker;
  job?: Job;
  idle?: unknown; // timer
}

interface Job {
  run: Run;
  wallMs: number;
  done: (r: Executed) => void;
  progress: Execution["progress"];
  /** What the guest logged so far. */
  log: Sink;
  slot?: Slot;
  timer?: unknown;
}

const empty = new Uint8Array(0);

const local = (status: StatusName, message: string): Executed => ({ status, exitCode: 0, output: empty, fuel: "0", log: empty, message });

export class Pool {
  private readonly slots = new Set<Slot>();
  private readonly queue: Job[] = [];
  private readonly jobs = new Map<number, Job>();
  private readonly code = new Map<string, Uint8Array>(); // least recently used first
  private codeBytes = 0;
  private stopped = "";
  private readonly timer: NonNullable<PoolConfig["timer"]>;

  constructor(private readonly config: PoolConfig) {
    this.timer = config.timer ?? { set: (f, ms) => setTimeout(f, ms), clear: (t) => clearTimeout(t as number) };
  }

  /** Runs that have a Worker. */
  get running(): number {
    let n = 0;
    for (const s of this.slots) if (s.job) n++;
    return n;
  }

  /** Holds for runs that start later; a Worker too many ends after its run. */
  resize(slots: number, cpu: number): void {
    this.config.slots = slots;
    this.config.cpu = cpu;
    for (const s of this.slots) {
      if (this.slots.size <= slots) break;
      if (!s.job) this.end(s);
    }
    this.next();
  }

  /** Ends every run at once with status cancelled and refuses new ones, until start. */
  stop(reason: string): void {
    this.stopped = reason;
    for (const id of [...this.jobs.keys()]) this.cancel(id);
    for (const s of this.slots) this.end(s);
  }

  start(): void {
    this.stopped = "";
  }

  execute(e: Execution): Promise<Executed> {
    if (this.stopped !== "") return Promise.resolve(local("cancelled", this.stopped));
    const fuel = Number(e.fuel);
    if (!Number.isSafeInteger(fuel) || fuel < 0 || fuel > 2 ** 52) return Promise.resolve(local("killed", `fuel ${e.fuel} is out of range`));
    if (this.jobs.has(e.id)) return Promise.resolve(local("killed", `run ${e.id} is running`));
    if (this.queue.length >= waiting * this.config.slots) return Promise.resolve(local("cancelled", "too many runs wait"));
    if (e.code) this.keep(e.key, e.code);
    else if (!this.code.has(e.key)) return Promise.resolve({ ...local("cancelled", "the code is not here"), needCode: true });
    return new Promise((done) => {
      const { id, key, input, memory, output, log, seed, abi, startFuel, minPages, wallMs } = e;
      const job: Job = {
        run: { id, moduleId: key, abi, startFuel, minPages, input, seed, limits: { fuel, memory, output, log, ...(wallMs > 0 && { wall: wallMs }) } },
        wallMs,
        log: new Sink(),
        done,
        progress: e.progress,
      };
      this.jobs.set(id, job);
      this.queue.push(job);
      this.next();
    });
  }

  /** Ends a run with status cancelled; one that is not here is no error. */
  cancel(id: number): void {
    this.finish(id, local("cancelled", this.stopped || "cancelled"), true);
  }

  private keep(key: string, code: Uint8Array): void {
    const known = this.code.get(key);
    if (known) {
      this.code.delete(key);
      this.code.set(key, known);
      return;
    }
    this.code.set(key, code);
    this.codeBytes += code.length;
    for (const [k, c] of this.code) {
      if (this.codeBytes <= codeCap || k === key) break;
      this.code.delete(k);
      this.codeBytes -= c.length;
    }
  }

  private next(): void {
    while (this.queue.length > 0) {
      const slot = this.free();
      if (!slot) return;
      this.begin(slot, this.queue.shift()!);
    }
  }

  private free(): Slot | undefined {
    for (const s of this.slots) if (!s.job) return s;
    if (this.slots.size >= this.config.slots) return undefined;
    let worker: TaskWorker;
    try {
      worker = this.config.spawn();
    } catch (e) {
      for (const j of this.queue.splice(0)) this.finish(j.run.id, local("killed", `no Worker: ${String(e)}`), false);
      return undefined;
    }
    const slot: Slot = { worker };
    this.slots.add(slot);
    worker.onreply = (reply) => this.reply(slot, reply);
    worker.onfail = (message) => {
      const job = slot.job;
      this.end(slot);
      if (job) this.finish(job.run.id, local("killed", message), false);
      else this.next();
    };
    return slot;
  }

  private begin(slot: Slot, job: Job): void {
    this.timer.clear(slot.idle);
    slot.job = job;
    job.slot = slot;
    job.run.cpu = this.config.cpu;
    // A Worker that compiled the module answers without the code; a new one
    // asks for it, which costs a message, not a copy per task.
    slot.worker.post({ run: job.run });
    this.watch(job);
    this.config.changed?.(this.running);
  }

  /** Modules in sliced form look at the clock themselves; others are ended here, a little later. */
  private watch(job: Job): void {
    this.timer.clear(job.timer);
    if (job.wallMs > 0) {
      job.timer = this.timer.set(() => this.finish(job.run.id, local("timeout", "wall clock limit"), true), this.patience(job));
    }
  }

  /**
   * The Worker's clock counts what it works, not what it sleeps to keep to its
   * share; here it is only seen that it answers, as long as such a share may
   * take at most.
   */
  private patience({ wallMs, run: { cpu = 100 } }: Job): number {
    return (cpu < 100 ? wallMs + (wallMs * 100) / Math.max(cpu, 100 / maxStretch) : wallMs) + 250;
  }

  private reply(slot: Slot, reply: Reply): void {
    const job = slot.job;
    if (!job) return; // it was ended in between
    if ("result" in reply) {
      const { status, exitCode, fuel, output, log } = reply.result satisfies Result;
      this.finish(job.run.id, { status: names[status], exitCode, fuel: String(fuel), output, log }, false);
    } else if ("fault" in reply) {
      this.finish(job.run.id, local("killed", reply.fault.message), true);
    } else if ("progress" in reply) {
      job.progress?.(reply.progress.permille);
    } else if ("log" in reply) {
      if (job.log.length + reply.log.bytes.length <= job.run.limits.log) job.log.append(reply.log.bytes);
    } else if ("need" in reply) {
      const bytes = this.code.get(job.run.moduleId);
      if (!bytes) {
        this.finish(job.run.id, { ...local("cancelled", "the code is not here any more"), needCode: true }, false);
        return;
      }
      slot.worker.post({ run: { ...job.run, bytes } });
      this.timer.clear(job.timer);
      job.timer = this.timer.set(() => this.finish(job.run.id, local("compile-timeout", "compiling took too long"), true), compileTimeout);
    } else {
      this.watch(job); // compiled: the run's own clock starts
    }
  }

  /** Answers a run; kill ends its Worker, because it may still be at it. */
  private finish(id: number, result: Executed, kill: boolean): void {
    const job = this.jobs.get(id);
    if (!job) return;
    this.jobs.delete(id);
    this.timer.clear(job.timer);
    const at = this.queue.indexOf(job);
    if (at >= 0) this.queue.splice(at, 1);
    const { slot } = job;
    if (slot) {
      delete slot.job;
      if (kill || this.slots.size > this.config.slots) this.end(slot);
      else if (this.slots.has(slot)) slot.idle = this.timer.set(() => this.end(slot), lingering);
    }
    // What ended a run knows nothing of its log.
    job.done(result.log.length > 0 ? result : { ...result, log: job.log.bytes() });
    this.next();
    this.config.changed?.(this.running);
  }

  private end(slot: Slot): void {
    if (!this.slots.delete(slot)) return;
    this.timer.clear(slot.idle);
    slot.worker.terminate();
  }
}

/** How many Workers, and the percent of one core that each may use, for a share of all cores. */
export function size(share: number, cores: number, memory: number): { slots: number; cpu: number; memory: number } {
  const want = Math.max(share, 0) * Math.max(cores, 1);
  // The network's default for one task; less would refuse most tasks.
  const room = Math.max(1, Math.floor(memory / (256 << 20)));
  const slots = Math.max(1, Math.min(Math.ceil(want - 1e-9), room));
  return { slots, cpu: Math.min(100, Math.max(1, Math.round((100 * want) / slots))), memory: Math.floor(memory / slots) };
}
