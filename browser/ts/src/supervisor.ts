// The node Worker as the elected tab sees it: started when there is something
// to do, and again when it ended.
import type { ConsentState, Stats } from "./api";
import { EdgeNetError } from "./api";
import type { Presence } from "./idle";
import type { Engine } from "./tab";
import type { Boot, Event, FromNode, Method, ToNode } from "./wires";

/** A Worker, started. */
export interface NodeWorker {
  post(m: ToNode): void;
  terminate(): void;
  onmessage: (m: FromNode) => void;
  /** It could not be loaded, or threw where nobody caught. */
  onfail: (e: EdgeNetError) => void;
}

export interface Means {
  spawn(): Promise<NodeWorker>;
  boot(): Boot;
  stats(s: Stats): void;
  event(e: Event): void;
  progress(loaded: number, total: number): void;
  setTimeout(f: () => void, ms: number): unknown;
  clearTimeout(t: unknown): void;
}

interface Waiting {
  method: Method;
  args: unknown;
  part: (done: number, total: number) => void;
  resolve: (v: unknown) => void;
  reject: (e: EdgeNetError) => void;
  sent: boolean;
}

const firstDelay = 1000;
const lastDelay = 60_000;

/** Milliseconds of work after which an end counts as the first one again. */
const steady = 60_000;

export class Supervisor implements Engine {
  private worker: NodeWorker | undefined;
  private spawning = false;
  private running = false;
  private delay = firstDelay;
  private timer: unknown;
  private settled: unknown;
  private failed: EdgeNetError | undefined;
  private trouble: EdgeNetError | undefined;
  private stopped = false;
  private last: Stats | null = null;
  private next = 1;
  private readonly waiting = new Map<number, Waiting>();

  constructor(private readonly m: Means) {}

  /** Why it does not run, if it is known. */
  why(): EdgeNetError | undefined {
    return this.failed ?? (this.running ? undefined : this.trouble);
  }

  stats(): Stats | null {
    return this.last;
  }

  call(method: Method, args: unknown, part: (done: number, total: number) => void): Promise<unknown> {
    if (this.stopped) return Promise.reject(new EdgeNetError("NODE_MOVED", "the node leaves this tab"));
    if (this.failed) return Promise.reject(this.failed);
    this.start();
    return new Promise((resolve, reject) => {
      const id = this.next++;
      const w: Waiting = { method, args, part, resolve, reject, sent: false };
      this.waiting.set(id, w);
      if (this.running) this.send(id, w);
    });
  }

  /** Loads and starts the node, unless it is there. */
  start(): void {
    if (this.worker || this.spawning || this.stopped || this.failed || this.timer !== undefined) return;
    this.spawning = true;
    this.m.spawn().then(
      (w) => this.born(w),
      (e: EdgeNetError) => {
        this.spawning = false;
        this.down(e, permanent(e));
      },
    );
  }

  private born(w: NodeWorker): void {
    this.spawning = false;
    if (this.stopped) {
      w.terminate();
      return;
    }
    this.worker = w;
    w.onmessage = (msg) => this.worker === w && this.hear(msg);
    w.onfail = (e) => this.worker === w && this.down(e, permanent(e));
    w.post({ boot: this.m.boot() });
  }

  private send(id: number, w: Waiting): void {
    w.sent = true;
    this.worker!.post({ call: { id, method: w.method, args: w.args } });
  }

  tell(msg: ToNode): void {
    this.worker?.post(msg);
  }

  presence(presence: Presence): void {
    this.tell({ presence });
  }

  consent(consent: ConsentState): void {
    this.tell({ consent });
  }

  private hear(m: FromNode): void {
    if (m.stats) {
      this.last = m.stats;
      this.m.stats(m.stats);
    } else if (m.reply) {
      const w = this.waiting.get(m.reply.id);
      this.waiting.delete(m.reply.id);
      if (m.reply.err) w?.reject(new EdgeNetError(m.reply.err.code, m.reply.err.message));
      else w?.resolve(m.reply.ok);
    } else if (m.part) {
      this.waiting.get(m.part.id)?.part(m.part.done, m.part.total);
    } else if (m.event) {
      if (m.event.kind === "error" && !this.running) this.trouble = new EdgeNetError(m.event.error.code, m.event.error.message);
      this.m.event(m.event);
    } else if (m.progress) {
      this.m.progress(m.progress.loaded, m.progress.total);
    } else if (m.started) {
      this.running = true;
      this.trouble = undefined;
      this.settled = this.m.setTimeout(() => (this.delay = firstDelay), steady);
      for (const [id, w] of this.waiting) if (!w.sent) this.send(id, w);
    } else if (m.down) {
      const e = new EdgeNetError(m.down.code, m.down.message);
      this.down(e, permanent(e));
    }
  }

  private down(e: EdgeNetError, forGood: boolean): void {
    this.worker?.terminate();
    this.worker = undefined;
    this.running = false;
    this.m.clearTimeout(this.settled);
    this.trouble = e;
    if (forGood) this.failed = e;
    for (const [id, w] of [...this.waiting]) {
      if (!forGood && !w.sent) continue; // it goes to the next one
      this.waiting.delete(id);
      w.reject(forGood ? e : new EdgeNetError("NODE_CRASHED", `the node ended: ${e.message}; the call may have had an effect`, { cause: e }));
    }
    this.m.event({ kind: "error", error: { code: e.code, message: e.message } });
    const stats = { ...(this.last ?? blank), state: forGood ? "failed" : "starting", reason: e.message, peers: 0, running: 0, cpu: 0 } as const;
    this.last = stats;
    this.m.stats(stats);
    if (forGood || this.stopped) return;
    this.timer = this.m.setTimeout(() => {
      this.timer = undefined;
      this.start();
    }, this.delay);
    this.delay = Math.min(2 * this.delay, lastDelay);
  }

  async stop(): Promise<void> {
    if (this.stopped) return;
    this.stopped = true;
    this.m.clearTimeout(this.timer);
    this.m.clearTimeout(this.settled);
    for (const w of this.waiting.values()) w.reject(new EdgeNetError("NODE_MOVED", "the node leaves this tab; the call may have had an effect"));
    this.waiting.clear();
    const w = this.worker;
    if (!w) return;
    if (this.running) {
      // A moment for what it wants to put on disk.
      await new Promise<void>((done) => {
        const t = this.m.setTimeout(done, 2000);
        w.onmessage = (msg) => {
          if (!msg.reply && !msg.down) return;
          this.m.clearTimeout(t);
          done();
        };
        w.onfail = () => done();
        w.post({ call: { id: this.next++, method: "close", args: null } });
      });
    }
    w.terminate();
    this.worker = undefined;
  }

  /** Ends it without a word: the page goes away. */
  kill(): void {
    this.stopped = true;
    this.worker?.terminate();
    this.worker = undefined;
  }
}

/** Errors that the same page would run into again. */
export function permanent(e: EdgeNetError): boolean {
  return ["CSP_WASM", "CSP_WORKER", "UNSUPPORTED", "BAD_CONFIG", "BAD_KEY", "ASSET_MISMATCH", "NO_WEBTRANSPORT", "GENESIS_MISSING"].includes(e.code);
}

export const blank: Stats = {
  state: "idle",
  reason: "",
  peerId: "",
  peers: 0,
  credits: 0,
  held: 0,
  receivable: 0,
  tasksCompleted: 0,
  tasksRun: 0,
  running: 0,
  uptime: 0,
  reputation: 0,
  cpu: 0,
  here: false,
};
