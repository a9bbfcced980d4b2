// Joins consent, signals, election and the node Worker for one page.
import type { Batch, BatchOptions, ConsentState, EdgeNetNode, InitOptions, Quote, Result, Stats, Task } from "./api";
import { EdgeNetError } from "./api";
import type { Assets } from "./assets";
import { jobsOf, type Part, quoted, spending } from "./batch";
import type { GoQuote } from "./boundary";
import { bad, type Settings } from "./check";
import type { Consents } from "./consent";
import type { Presence } from "./idle";
import { type Outcome, revive } from "./outcome";
import { Signals } from "./signals";
import { blank, Supervisor } from "./supervisor";
import { type Engine, type Surroundings, Tab } from "./tab";
import { uniqueness } from "./uniqueness";
import type { Between, Event } from "./wires";

const lockName = "edgenet.node";
const channelName = "edgenet";

/** Tasks of one call. */
const maxTasks = 10_000;

/** What answers take beyond the job's own time. */
const grace = 10_000;

function missing(): string[] {
  const needs: Record<string, boolean> = {
    "a secure context (https)": isSecureContext,
    WebAssembly: typeof WebAssembly === "object",
    Workers: typeof Worker === "function",
    "Web Locks": "locks" in navigator,
    BroadcastChannel: typeof BroadcastChannel === "function",
    "Web Cryptography": typeof crypto === "object" && "subtle" in crypto,
  };
  return Object.keys(needs).filter((n) => !needs[n]);
}

const failure = (error: EdgeNetError): Result => ({
  cost: 0,
  workers: [],
  verified: false,
  receipts: [],
  status: "unknown",
  output: new Uint8Array(0),
  log: new Uint8Array(0),
  fuel: 0,
  error,
});

export class Page implements EdgeNetNode {
  private readonly id = crypto.randomUUID();
  private readonly tab: Tab;
  private readonly signals: Signals;
  private supervisor: Supervisor | undefined;
  private readonly presences = new Map<string, Presence>();
  private last: Stats = blank;
  private stopped = false;
  private gone = false;
  private script = ""; // address of the task Worker
  private readonly ends: (() => void)[] = [];
  private readonly readies = new Set<{ resolve: () => void; reject: (e: EdgeNetError) => void }>();
  private trouble: EdgeNetError | undefined;

  private constructor(
    private readonly options: InitOptions,
    private readonly settings: Settings,
    private readonly assets: Assets,
    private readonly consents: Consents,
  ) {
    this.tab = new Tab(this.surroundings(), {
      event: (e) => this.event(e),
      stats: (s) => this.heard(s),
      presence: (m) => this.presence(m.presence),
      stopped: (stopped) => this.stop(stopped),
      consent: () => this.consents.refresh(),
      elected: (e) => this.elected(e),
      leader: () => this.tab.post({ t: "presence", presence: this.signals.now() }),
    });
    this.signals = new Signals(this.id, (p) => {
      this.presence(p);
      this.tab.post({ t: "presence", presence: p });
    });
    this.ends.push(() => this.signals.end());
    this.ends.push(this.consents.watch((s) => this.consent(s)));
    const hide = (): void => this.hide();
    addEventListener("pagehide", hide);
    this.ends.push(() => removeEventListener("pagehide", hide));
  }

  static async open(options: InitOptions, settings: Settings, assets: Assets, consents: Consents): Promise<Page> {
    const lacks = missing();
    if (lacks.length > 0) throw new EdgeNetError("UNSUPPORTED", `this browser or page lacks ${lacks.join(", ")}`);
    const page = new Page(options, settings, assets, consents);
    await page.tab.join();
    return page;
  }

  private surroundings(): Surroundings {
    const channel = new BroadcastChannel(channelName);
    const c: Surroundings["channel"] = {
      post: (m) => channel.postMessage(m),
      onmessage: () => {},
      close: () => channel.close(),
    };
    channel.onmessage = (e: MessageEvent<Between>) => c.onmessage(e.data);
    return {
      id: this.id,
      elect: async (hold, signal) => {
        try {
          await navigator.locks.request(lockName, { signal }, hold);
        } catch (e) {
          if ((e as Error).name !== "SecurityError") throw e;
          // Storage is blocked, and with it locks. Each tab then has an
          // identity of its own, so two nodes do no harm.
          await hold();
        }
      },
      channel: c,
      engine: () => this.engine(),
      epoch: () => crypto.randomUUID(),
      now: () => performance.now(),
      setTimeout: (f, ms) => setTimeout(f, ms),
      clearTimeout: (t) => clearTimeout(t as number),
    };
  }

  private engine(): Supervisor {
    return new Supervisor({
      spawn: async () => {
        this.script = await this.assets.script(this.assets.manifest.taskWorker);
        // Without it the browser may drop the key and the ledger when its disk fills.
        void navigator.storage?.persist?.().catch(() => false);
        return this.assets.spawn();
      },
      boot: () => ({
        settings: this.settings,
        wasm: { url: this.assets.url(this.assets.manifest.wasm), asset: this.assets.manifest.wasm },
        taskWorker: this.script,
        consent: this.consents.state(),
        stopped: this.stopped,
        cores: navigator.hardwareConcurrency || 1,
        presences: [...this.presences.values()],
      }),
      stats: (stats) => this.tab.publish({ stats }),
      event: (event) => this.tab.publish({ event }),
      progress: (loaded, total) => this.shield(() => this.options.onProgress?.(loaded, total)),
      setTimeout: (f, ms) => setTimeout(f, ms),
      clearTimeout: (t) => clearTimeout(t as number),
    });
  }

  private elected(e: Engine | undefined): void {
    this.supervisor = e as Supervisor | undefined;
    if (this.supervisor && this.consents.state().given) this.supervisor.start();
  }

  private consent(s: ConsentState): void {
    this.supervisor?.consent(s);
    if (s.given) this.supervisor?.start();
  }

  private presence(p: Presence): void {
    if (p.gone) this.presences.delete(p.id);
    else this.presences.set(p.id, p);
    this.supervisor?.presence(p);
  }

  private heard(s: Stats): void {
    this.last = s;
    if (s.state === "working" || s.state === "paused") {
      this.trouble = undefined;
      for (const r of this.readies) r.resolve();
      this.readies.clear();
    } else if (s.state === "failed") {
      const e = this.trouble ?? new EdgeNetError("NODE_CRASHED", s.reason);
      for (const r of this.readies) r.reject(e);
      this.readies.clear();
    }
  }

  private event(e: Event): void {
    if (e.kind === "credit") this.shield(() => this.options.onCredit?.(e.credits, e.total, e.of));
    else if (e.kind === "task") this.shield(() => this.options.onTask?.(e.task as never));
    else this.report(new EdgeNetError(e.error.code, e.error.message));
  }

  /** For warnings of this page, too. */
  report(e: EdgeNetError): void {
    this.trouble = e;
    this.shield(() => this.options.onError?.(e));
  }

  /** A fault in a page's callback is the page's, not ours. */
  private shield(f: () => void): void {
    try {
      f();
    } catch (e) {
      reportError(e);
    }
  }

  stats(): Stats {
    if (this.gone) return { ...blank, state: "disconnected" };
    if (this.last.state === "idle") return { ...blank, here: this.tab.leads, reason: this.consents.state().given ? "" : "no consent" };
    return { ...this.last };
  }

  pause(): void {
    this.stop(true);
    this.tab.post({ t: "stopped", stopped: true });
  }

  resume(): void {
    this.stop(false);
    this.tab.post({ t: "stopped", stopped: false });
  }

  private stop(stopped: boolean): void {
    this.stopped = stopped;
    this.supervisor?.tell({ stopped });
  }

  ready(): Promise<void> {
    if (this.gone) return Promise.reject(new EdgeNetError("DISCONNECTED", "this page left the network"));
    if (this.last.state === "working" || this.last.state === "paused") return Promise.resolve();
    if (this.last.state === "failed") return Promise.reject(this.trouble ?? new EdgeNetError("NODE_CRASHED", this.last.reason));
    return new Promise((resolve, reject) => this.readies.add({ resolve, reject }));
  }

  uniqueness(): Promise<string> {
    const { platform, deviceMemory } = navigator as { platform?: string; deviceMemory?: number };
    const traits = {
      cores: navigator.hardwareConcurrency || 1,
      memory: deviceMemory ?? 0,
      width: screen.width,
      height: screen.height,
      platform: platform ?? "",
    };
    return uniqueness(traits, this.settings.relays.join(" "), location.origin, Date.now());
  }

  private jobs(what: string, tasks: Task[]): Part[] {
    if (!Array.isArray(tasks) || tasks.length === 0 || tasks.length > maxTasks) throw bad(`${what}: 1 to ${maxTasks} tasks are needed`);
    return jobsOf(tasks);
  }

  async quote(tasks: Task[]): Promise<Quote> {
    const late = () => this.why() ?? new EdgeNetError("TIMEOUT", "the node does not answer");
    const jobs = this.jobs("quote", tasks);
    return quoted((await Promise.all(jobs.map(({ job }) => this.tab.call("quote", job, { again: true, ms: job.timeoutMs + grace, late })))) as GoQuote[]);
  }

  async submit(tasks: Task[], options: BatchOptions): Promise<Batch> {
    const jobs = this.jobs("submitBatch", tasks);
    const done = new Map<Part, number>();
    const results: Result[] = [];
    const run = async (part: Part): Promise<string> => {
      const { job, places } = part;
      const { results: outcomes, costMicro } = (await this.tab.call("submit", job, {
        again: false,
        ms: job.timeoutMs + grace,
        part: (n) => {
          done.set(part, n);
          let all = 0;
          for (const d of done.values()) all += d;
          this.shield(() => options.onProgress?.(all, tasks.length));
        },
        late: () => this.why() ?? new EdgeNetError("TIMEOUT", "no answer in the time of the job; the call may have had an effect"),
      })) as { results: Outcome[]; costMicro: string };
      outcomes.forEach((o, i) => (results[places[i]!] = revive(o)));
      return costMicro;
    };
    const ends = await Promise.allSettled(jobs.map(run));
    const failed = ends.filter((e) => e.status === "rejected");
    if (failed.length === ends.length) throw failed[0]!.reason;
    // Some jobs have results, which were paid for: the others' tasks say why they have none.
    jobs.forEach(({ places }, i) => {
      const end = ends[i]!;
      if (end.status === "rejected") for (const at of places) results[at] = failure(end.reason as EdgeNetError);
    });
    return spending(
      results,
      jobs,
      ends.flatMap((e) => (e.status === "fulfilled" ? [e.value] : [])),
    );
  }

  /** What keeps the node from running, for a call that waited in vain. */
  private why(): EdgeNetError | undefined {
    return this.supervisor ? this.supervisor.why() : this.last.state === "starting" ? this.trouble : undefined;
  }

  /** The page is left, perhaps for the back/forward cache: another tab may take over now. */
  private hide(): void {
    this.tab.post({ t: "presence", presence: { ...this.signals.now(), gone: true } });
    this.supervisor?.kill();
    void this.leave(new EdgeNetError("DISCONNECTED", "the page was left"));
  }

  async disconnect(): Promise<void> {
    if (this.gone) return;
    this.tab.post({ t: "presence", presence: { ...this.signals.now(), gone: true } });
    await this.leave(new EdgeNetError("DISCONNECTED", "this page left the network"));
  }

  private leave(e: EdgeNetError): Promise<void> {
    this.gone = true;
    for (const f of this.ends.splice(0)) f();
    for (const r of this.readies) r.reject(e);
    this.readies.clear();
    return this.tab.close(e);
  }

  get left(): boolean {
    return this.gone;
  }

  tellConsent(): void {
    this.tab.post({ t: "consent" });
  }
}
