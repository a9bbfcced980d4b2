// One node per origin: a tab is elected to run it, the others use it through
// that tab, and when it goes another takes over. A call never hangs: it is
// answered, sent again when that is harmless, or fails with a typed error.
import type { Stats } from "./api";
import { EdgeNetError } from "./api";
import { typed, wire } from "./errors";
import type { Between, Event, Method } from "./wires";

/** What runs the node in the elected tab. */
export interface Engine {
  call(method: Method, args: unknown, part: (done: number, total: number) => void): Promise<unknown>;
  stats(): Stats | null;
  /** Ends it; afterwards nothing of it runs. */
  stop(): Promise<void>;
}

/** What a tab needs of its browser. */
export interface Surroundings {
  id: string;
  /** Calls hold when this tab is elected; the election lasts until hold's promise ends. */
  elect(hold: () => Promise<void>, signal: AbortSignal): Promise<void>;
  channel: { post(m: Between): void; onmessage: (m: Between) => void; close(): void };
  /** Starts nothing heavy by itself. */
  engine(): Engine;
  epoch(): string;
  now(): number;
  setTimeout(f: () => void, ms: number): unknown;
  clearTimeout(t: unknown): void;
}

export interface Hooks {
  event(e: Event): void;
  stats(s: Stats): void;
  presence(m: Between & { t: "presence" }): void;
  stopped(stopped: boolean): void;
  consent(): void;
  /** This tab runs the node now, or does not any more. */
  elected(engine: Engine | undefined): void;
  /** Another tab took over, and should hear of this one. */
  leader(): void;
}

interface Pending {
  id: number;
  method: Method;
  args: unknown;
  /** May be sent twice. */
  again: boolean;
  resolve: (v: unknown) => void;
  reject: (e: EdgeNetError) => void;
  part: (done: number, total: number) => void;
  /** The leader that said it has it. */
  epoch?: string;
  deadline: unknown;
  what: () => EdgeNetError;
}

/** Milliseconds between looks at a leader while calls wait for it. */
const look = 3000;

/** Milliseconds without a word from the leader after which calls that it has fail. */
const silence = 20_000;

export class Tab {
  private engine: Engine | undefined;
  private epoch = ""; // of the leader that is known
  private heard = -Infinity;
  private next = 1;
  private readonly pending = new Map<number, Pending>();
  private readonly serving = new Set<string>();
  private release: (() => void) | undefined;
  private readonly leave = new AbortController();
  private watching: unknown;
  private left = false;
  private election: Promise<void> = Promise.resolve();

  constructor(
    private readonly s: Surroundings,
    private readonly hooks: Hooks,
  ) {
    s.channel.onmessage = (m) => this.hear(m);
  }

  get leads(): boolean {
    return this.engine !== undefined;
  }

  /** Takes part in the election. Rejects when the browser has none. */
  join(): Promise<void> {
    this.s.channel.post({ t: "who", from: this.s.id });
    return new Promise((resolve, reject) => {
      this.election = this.s
        .elect(async () => {
          if (this.left) return;
          const end = new Promise<void>((r) => (this.release = r));
          this.lead();
          await end;
          const engine = this.engine;
          this.engine = undefined;
          this.hooks.elected(undefined);
          await engine?.stop();
          this.s.channel.post({ t: "bye", from: this.s.id, epoch: this.epoch });
        }, this.leave.signal)
        .catch((e: unknown) => {
          if (!this.left) reject(e as Error);
        });
      // An election that does not end at once goes on behind.
      this.s.setTimeout(resolve, 0);
    });
  }

  private lead(): void {
    this.engine = this.s.engine();
    this.epoch = this.s.epoch();
    this.hooks.elected(this.engine);
    this.hello();
    this.moved();
  }

  private hello(): void {
    this.s.channel.post({ t: "hello", from: this.s.id, epoch: this.epoch, stats: this.engine!.stats() });
  }

  /** The elected tab tells all others. */
  publish(m: { stats: Stats } | { event: Event }): void {
    if (!this.engine) return;
    if ("stats" in m) {
      this.s.channel.post({ t: "hello", from: this.s.id, epoch: this.epoch, stats: m.stats });
      this.hooks.stats({ ...m.stats, here: true });
    } else {
      this.s.channel.post({ t: "event", epoch: this.epoch, event: m.event });
      this.hooks.event(m.event);
    }
  }

  post(m: Between): void {
    if (!this.left) this.s.channel.post(m);
  }

  /**
   * Asks the node, wherever it runs. After ms milliseconds the call fails with
   * what `late` makes.
   */
  call(method: Method, args: unknown, o: { again: boolean; ms: number; part?: Pending["part"]; late: () => EdgeNetError }): Promise<unknown> {
    if (this.left) return Promise.reject(new EdgeNetError("DISCONNECTED", "this page left the network"));
    return new Promise((resolve, reject) => {
      const id = this.next++;
      const p: Pending = {
        id,
        method,
        args,
        again: o.again,
        resolve,
        reject,
        part: o.part ?? (() => {}),
        what: o.late,
        deadline: this.s.setTimeout(() => this.settle(p, undefined, p.what()), o.ms),
      };
      this.pending.set(id, p);
      this.send(p);
      this.watch();
    });
  }

  private settle(p: Pending, ok: unknown, err?: EdgeNetError): void {
    if (!this.pending.delete(p.id)) return;
    this.s.clearTimeout(p.deadline);
    if (err) p.reject(err);
    else p.resolve(ok);
  }

  private send(p: Pending): void {
    if (this.engine) {
      const { epoch } = this;
      p.epoch = epoch;
      this.engine.call(p.method, p.args, p.part).then(
        (ok) => this.settle(p, ok),
        (e: unknown) => {
          if (this.epoch === epoch) this.settle(p, undefined, typed(e));
        },
      );
    } else if (this.epoch !== "") {
      this.s.channel.post({ t: "call", from: this.s.id, epoch: this.epoch, id: p.id, method: p.method, args: p.args });
    }
  }

  /** While calls wait for another tab, sees that it lives. */
  private watch(): void {
    if (this.watching !== undefined || this.engine || this.pending.size === 0) return;
    this.watching = this.s.setTimeout(() => {
      this.watching = undefined;
      if (this.engine || this.left) return;
      this.s.channel.post({ t: "who", from: this.s.id });
      const quiet = this.epoch !== "" && this.s.now() - this.heard > silence;
      for (const p of [...this.pending.values()]) {
        if (p.epoch === undefined) this.send(p); // lost, or nobody led then
        else if (quiet) this.settle(p, undefined, new EdgeNetError("NODE_SILENT", "the tab that runs the node does not answer; the call may have had an effect"));
      }
      this.watch();
    }, look);
  }

  /** The node runs elsewhere from now on: what its old place had is gone. */
  private moved(): void {
    for (const p of [...this.pending.values()]) {
      if (p.epoch !== undefined && p.epoch !== this.epoch) {
        if (!p.again) {
          this.settle(p, undefined, new EdgeNetError("NODE_MOVED", "another tab took over the node; the call may have had an effect"));
          continue;
        }
        delete p.epoch;
      }
      if (p.epoch === undefined) this.send(p);
    }
    this.watch();
  }

  private hear(m: Between): void {
    if (this.left) return;
    switch (m.t) {
      case "who":
        if (this.engine) this.hello();
        return;
      case "hello":
        if (this.engine) return;
        this.heard = this.s.now();
        if (m.epoch !== this.epoch) {
          this.epoch = m.epoch;
          this.moved();
          this.hooks.leader();
        }
        if (m.stats) this.hooks.stats({ ...m.stats, here: false });
        return;
      case "bye":
        if (this.engine || m.epoch !== this.epoch) return;
        this.epoch = "";
        this.moved();
        return;
      case "call":
        this.serve(m);
        return;
      case "ack":
      case "reply":
      case "part": {
        if (m.to !== this.s.id || m.epoch !== this.epoch) return;
        this.heard = this.s.now();
        const p = this.pending.get(m.id);
        if (!p) return;
        if (m.t === "ack") p.epoch = m.epoch;
        else if (m.t === "part") p.part(m.done, m.total);
        else this.settle(p, m.ok, m.err && new EdgeNetError(m.err.code, m.err.message));
        return;
      }
      case "event":
        if (m.epoch === this.epoch) this.hooks.event(m.event);
        return;
      case "presence":
        this.hooks.presence(m);
        return;
      case "stopped":
        this.hooks.stopped(m.stopped);
        return;
      case "consent":
        this.hooks.consent();
    }
  }

  private serve(m: Between & { t: "call" }): void {
    const { engine, epoch } = this;
    if (!engine || m.epoch !== epoch) return; // it will be sent to whom it may concern
    const { from: to, id } = m;
    this.s.channel.post({ t: "ack", to, epoch, id });
    const key = `${to} ${id}`;
    if (this.serving.has(key)) return;
    this.serving.add(key);
    engine
      .call(m.method, m.args, (done, total) => this.s.channel.post({ t: "part", to, epoch, id, done, total }))
      .then(
        (ok) => this.s.channel.post({ t: "reply", to, epoch, id, ok }),
        (e: unknown) => this.s.channel.post({ t: "reply", to, epoch, id, err: wire(e) }),
      )
      // Kept a while, because the ack may have crossed a second sending.
      .finally(() => this.s.setTimeout(() => this.serving.delete(key), 10 * look));
  }

  /** Leaves at once: waiting calls fail, and another tab may take over. */
  async close(error: EdgeNetError): Promise<void> {
    if (this.left) return;
    this.left = true;
    for (const p of [...this.pending.values()]) this.settle(p, undefined, error);
    this.s.clearTimeout(this.watching);
    this.release?.();
    this.leave.abort();
    await this.election;
    this.s.channel.close();
  }
}
