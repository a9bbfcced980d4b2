// Entry of the dedicated Worker in which the node of this origin runs.
import type { ConsentState, State, Stats } from "./api";
import { EdgeNetError } from "./api";
import type { GoNode, GoResult, Host, StartConfig } from "./boundary";
import { type Job, type Settings, toCredits } from "./check";
import { typed, wire } from "./errors";
import { runProgram } from "./go";
import { Gate, Presences, type Verdict } from "./idle";
import { databaseName, Keys } from "./keys";
import { load } from "./loader";
import { outcome } from "./outcome";
import { Pool, size, type TaskWorker } from "./pool";
import { cid, type Found, find, id8 } from "./relays";
import type { Reply } from "./protocol";
import type { Boot, Event, FromNode, ToNode } from "./wires";

interface Scope {
  onmessage: ((e: { data: ToNode }) => void) | null;
  postMessage(m: FromNode): void;
  edgenetHost?: Host;
  edgenetNode?: GoNode;
}

const scope = globalThis as unknown as Scope;

/** Milliseconds between looks at the signals. */
const beat = 500;

/** A beat that comes this late means that the machine or the tab was asleep. */
const asleep = 20_000;

/** Clocks that differ by more make claims and credits expire early or late. */
const skew = 300_000;

const readyTimeout = 30_000;

const post = (m: FromNode): void => scope.postMessage(m);
const emit = (event: Event): void => post({ event });
const warn = (e: EdgeNetError): void => emit({ kind: "error", error: wire(e) });
const pause = (ms: number): Promise<void> => new Promise((r) => setTimeout(r, ms));

class Node {
  private go: GoNode | undefined;
  private readonly pool: Pool;
  private readonly gate: Gate;
  private readonly presences = new Presences();
  private readonly settings: Settings;
  private consent: ConsentState;
  private stopped: boolean;
  private verdict: Verdict = { share: 0, reason: "starting" };
  private given = ""; // limits that Go was told last
  private paused: string | undefined; // reason that Go was told last, "" for none
  private network: string | undefined;
  private found: Found | undefined;
  private warned = new Map<string, number>(); // when, by what it says
  private last = Date.now();
  private stats = "";
  private beats = 0;
  private peerId = "";

  constructor(private readonly boot: Boot) {
    this.settings = boot.settings;
    this.consent = boot.consent;
    this.stopped = boot.stopped;
    this.gate = new Gate(boot.settings);
    for (const p of boot.presences) this.presences.hear(p, Date.now());
    this.pool = new Pool({ spawn: () => this.spawn(), ...this.size(1), changed: () => this.publish() });
    if (!this.consent.given) this.pool.stop("no consent");
  }

  private spawn(): TaskWorker {
    const w = new Worker(this.boot.taskWorker, { name: "edgenet task" });
    const t: TaskWorker = {
      onreply: () => {},
      onfail: () => {},
      post: (request) => w.postMessage(request),
      terminate: () => w.terminate(),
    };
    w.onmessage = (e: MessageEvent<Reply>) => t.onreply(e.data);
    w.onerror = (e) => {
      e.preventDefault();
      t.onfail(e.message ?? "the task Worker did not start");
    };
    return t;
  }

  /** The visitor's limit and the site's: the lower one. */
  private limit(): number {
    return Math.min(this.settings.cpuLimit, this.consent.given ? this.consent.cpuLimit : this.settings.cpuLimit);
  }

  private size(share: number): { slots: number; cpu: number; memory: number } {
    return size(this.limit() * share, this.boot.cores, this.settings.memoryLimit);
  }

  async run(): Promise<void> {
    const { wasm } = this.boot;
    this.publish();
    let at = 0;
    const loading = load({
      url: wasm.url,
      asset: wasm.asset,
      warn,
      progress: (loaded, total) => {
        // A few dozen messages are enough for any bar.
        if (loaded < total && loaded - at < total / 50) return;
        at = loaded;
        post({ progress: { loaded, total } });
      },
    });
    loading.catch(() => {}); // seen below
    const { seed, keys } = await this.identity();
    let genesis: Uint8Array;
    try {
      genesis = await this.relays(keys, loading);
    } finally {
      keys?.close();
    }
    const module = await loading;

    const ready = new Promise<void>((resolve) => {
      scope.edgenetHost = {
        ready: resolve,
        event: (kind, json) => this.event(kind, json),
        execute: (e) => this.pool.execute(e),
        cancel: (id) => this.pool.cancel(id),
        resolve: () => this.resolve(),
      };
    });
    const ended = runProgram(module).then(
      () => {
        throw new EdgeNetError("NODE_CRASHED", "its program ended");
      },
      (e: unknown) => {
        throw typed(e, "NODE_CRASHED");
      },
    );
    ended.catch((e: unknown) => this.end(e));
    await Promise.race([
      ready,
      ended,
      pause(readyTimeout).then(() => {
        throw new EdgeNetError("NODE_CRASHED", "its program does not get ready");
      }),
    ]);
    const go = scope.edgenetNode;
    if (!go) throw new EdgeNetError("NODE_CRASHED", "its program has no entry");

    const { slots, memory, cpu } = this.size(1);
    const s = this.settings;
    const config: StartConfig = {
      genesis,
      seed,
      bootstrap: this.found!.addrs,
      db: keys ? await databaseName(await id8(genesis), seed) : "",
      types: s.types,
      slots,
      memory,
      taskPercent: cpu,
      work: this.look().share > 0,
      ...(s.site !== undefined && { site: s.site }),
      ...(s.payee !== undefined && { payee: s.payee }),
      ...(s.bandwidth !== undefined && { bandwidth: s.bandwidth }),
    };
    this.peerId = (await Promise.race([go.start(config), ended])).peerId;
    this.go = go;
    this.beat();
    this.publish(); // before any answer, so that nobody sees an older state with it
    setInterval(() => this.beat(), beat);
    post({ started: true });
  }

  /** The seed, and where things are kept unless storage is blocked. */
  private async identity(): Promise<{ seed: Uint8Array; keys?: Keys }> {
    const given = this.settings.seed;
    let keys: Keys;
    try {
      keys = await Keys.open();
    } catch (e) {
      warn(new EdgeNetError("STORAGE_BLOCKED", `storage is blocked: what this node earns and owes lives as long as this page (${(e as Error).message})`));
      return { seed: given ?? crypto.getRandomValues(new Uint8Array(32)) };
    }
    if (given) return { seed: given, keys };
    try {
      return { seed: await keys.seed(), keys };
    } catch (e) {
      keys.close();
      const full = (e as Error).name === "QuotaExceededError";
      warn(new EdgeNetError(full ? "QUOTA" : "STORAGE_BLOCKED", `the key cannot be kept: this identity lives as long as this page (${(e as Error).message})`));
      return { seed: crypto.getRandomValues(new Uint8Array(32)) };
    }
  }

  /** Asks relays until the network and a way into it are known. Ends early when the program cannot be loaded. */
  private async relays(keys: Keys | undefined, loading: Promise<unknown>): Promise<Uint8Array> {
    let genesis = this.settings.genesis;
    if (!genesis && keys) genesis = (await keys.get("genesis").catch(() => undefined)) as Uint8Array | undefined;
    const remembered = genesis !== undefined && this.settings.genesis === undefined;
    for (let delay = 1000; ; delay = Math.min(2 * delay, 60_000)) {
      const found = await this.ask(this.settings.genesis && (await networkOf(this.settings.genesis)));
      const origins = this.settings.relays.some((r) => !r.startsWith("/"));
      const g = found.genesis ?? (this.settings.genesis || (remembered && found.addrs.length > 0) ? genesis : undefined);
      if (g && found.addrs.length > 0) {
        this.usable(found.addrs);
        this.found = found;
        this.network = await networkOf(g);
        await keys?.put({ genesis: g }).catch(() => {});
        return g;
      }
      if (!origins) throw new EdgeNetError("GENESIS_MISSING", "only multiaddrs were given: pass genesis, or the origin of a relay");
      // All of them wrong is the page's fault; still, an operator may mend it.
      if (found.errors.length === 0) warn(new EdgeNetError("RELAY_BAD", "no relay has an address"));
      await Promise.race([pause(delay), loading.then(() => pause(delay))]);
    }
  }

  private usable(addrs: string[]): void {
    if ("WebTransport" in globalThis) return;
    if (addrs.some((a) => /\/(wss?|tls\/ws)(\/|$)/.test(a))) return;
    throw new EdgeNetError("NO_WEBTRANSPORT", "this browser has no WebTransport and no relay has a WebSocket address");
  }

  private async ask(network: string | undefined): Promise<Found> {
    const found = await find(this.settings.relays, (url, init) => fetch(url, init), Date.now, network);
    for (const e of found.errors) this.once(e);
    if (found.ahead !== undefined && Math.abs(found.ahead) > skew) {
      const minutes = Math.round(found.ahead / 60_000);
      this.once(new EdgeNetError("CLOCK_SKEW", `this clock is ${Math.abs(minutes)} minutes ${minutes > 0 ? "behind" : "ahead of"} a relay's`));
    }
    return found;
  }

  /** Says the same thing at most every ten minutes. */
  private once(e: EdgeNetError): void {
    const key = `${e.code} ${e.message}`;
    const now = performance.now();
    if (now - (this.warned.get(key) ?? -Infinity) < 600_000) return;
    this.warned.set(key, now);
    warn(e);
  }

  /** For Go: where relays are now. */
  private async resolve(): Promise<string[]> {
    const found = await this.ask(this.network);
    // Given multiaddrs are known to Go already; an empty list says that no origin answers.
    return found.genesis ? found.addrs : [];
  }

  hear(m: ToNode): void {
    if (m.call) {
      const { id, method, args } = m.call;
      const done = method === "submit" ? this.submit(args as Job, id) : method === "quote" ? this.go!.quote(args as Job) : this.close();
      done.then(
        (ok) => post({ reply: { id, ok } }),
        (e: unknown) => post({ reply: { id, err: wire(e) } }),
      );
    } else if (m.presence) {
      this.presences.hear(m.presence, Date.now());
      this.beat(false);
    } else if (m.consent) {
      this.consent = m.consent;
      // Before anything else: what runs ends now, not at its end.
      if (m.consent.given) this.pool.start();
      else this.pool.stop("no consent");
      this.beat(false);
      this.publish();
    } else if (m.stopped !== undefined) {
      this.stopped = m.stopped;
      this.beat(false);
      this.publish();
    }
  }

  private beat(timed = true): void {
    const now = Date.now();
    if (timed) {
      if (now - this.last > asleep) this.thaw(now);
      this.last = now;
    }
    // Consent ends by itself, even when no tab's timer is on time.
    if (this.consent.given && now >= this.consent.expires) {
      this.consent = { given: false, expires: 0, cpuLimit: 0 };
      this.pool.stop("no consent");
    }
    const { share, reason } = this.look();
    if (this.go) {
      if (share > 0) {
        const { slots, cpu } = this.size(share);
        this.pool.resize(slots, cpu);
        const given = `${slots} ${cpu}`;
        if (given !== this.given) this.told(this.go.limits({ slots, taskPercent: cpu }));
        this.given = given;
      }
      const because = share > 0 ? "" : reason;
      if (because !== this.paused) this.told(because === "" ? this.go.resume() : this.go.pause(because));
      this.paused = because;
    }
    if (timed && ++this.beats % 2 === 0) this.publish();
  }

  private look(): Verdict {
    const now = Date.now();
    this.verdict = this.gate.update({ ...this.presences.signals(now), consent: this.consent.given, stopped: this.stopped }, now);
    return this.verdict;
  }

  /** Go takes orders one after the other; one that fails is reported. */
  private told(order: Promise<void>): void {
    order.catch((e: unknown) => warn(typed(e)));
  }

  private thaw(now: number): void {
    this.presences.thaw(now);
    void this.resolve().then((addrs) => {
      if (addrs.length > 0 && this.go) this.told(this.go.relays(addrs));
    });
  }

  /** Tells the page what changed, and every ten seconds that this lives. */
  private publish(): void {
    const g = this.go?.stats();
    const { share, reason } = this.verdict;
    const state: State = !g ? "starting" : share > 0 && !g.paused ? "working" : "paused";
    const s: Stats = {
      state,
      reason: reason || (g?.paused ?? ""),
      peerId: g?.peerId ?? this.peerId,
      peers: g?.peers ?? 0,
      credits: toCredits(g?.creditsMicro ?? "0"),
      held: toCredits(g?.heldMicro ?? "0"),
      receivable: toCredits(g?.receivableMicro ?? "0"),
      tasksCompleted: g?.tasksAccepted ?? 0,
      tasksRun: g?.tasksRun ?? 0,
      running: this.pool.running,
      uptime: g?.uptimeMs ?? 0,
      reputation: (g?.reputationPpm ?? 0) / 1e6,
      cpu: g && state === "working" ? this.limit() * share : 0,
      here: true,
    };
    const text = JSON.stringify({ ...s, uptime: 0 });
    if (text === this.stats && this.beats % 10 !== 0) return;
    this.stats = text;
    post({ stats: s });
  }

  private event(kind: string, json: string): void {
    let v: Record<string, unknown>;
    try {
      v = JSON.parse(json) as Record<string, unknown>;
    } catch {
      return;
    }
    if (kind === "credit") {
      const of = v["of"] === "transfer" || v["of"] === "reward" ? v["of"] : "work";
      emit({ kind, credits: toCredits(String(v["changeMicro"])), total: toCredits(String(v["creditsMicro"])), of });
      this.publish();
    } else if (kind === "task") {
      emit({ kind, task: v });
    } else if (kind === "error") {
      emit({ kind, error: { code: String(v["code"]), message: String(v["message"]) } });
    } else {
      this.publish();
    }
  }

  private async submit(job: Job, id: number): Promise<unknown> {
    const { tasks, ...rest } = job;
    const r = await this.go!.submit(
      {
        ...rest,
        tasks,
      },
      (done, total) => post({ part: { id, done, total } }),
    );
    return { costMicro: r.costMicro, results: r.results.map((x: GoResult) => outcome(x)) };
  }

  private async close(): Promise<void> {
    this.pool.stop("the node leaves");
    await this.go?.disconnect();
  }

  /** The program is gone. The page starts a new Worker. */
  end(e: unknown): void {
    this.pool.stop("the node ended");
    post({ down: wire(typed(e, "NODE_CRASHED")) });
  }
}

const networkOf = (genesis: Uint8Array): Promise<string> => cid(genesis);

let node: Node | undefined;

scope.onmessage = ({ data }) => {
  if (data.boot) {
    node = new Node(data.boot);
    const n = node;
    n.run().catch((e: unknown) => n.end(e));
    return;
  }
  node?.hear(data);
};
