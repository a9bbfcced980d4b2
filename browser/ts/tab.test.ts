import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import type { Stats } from "./src/api";
import { EdgeNetError } from "./src/api";
import { blank } from "./src/supervisor";
import { type Engine, type Hooks, Tab } from "./src/tab";
import type { Between, Event, Method } from "./src/wires";

/** A node that answers when the test says so. */
class FakeEngine implements Engine {
  calls: { method: Method; args: unknown; resolve: (v: unknown) => void; reject: (e: unknown) => void; part: (d: number, t: number) => void }[] = [];
  stopped = false;
  stats = (): Stats => blank;
  call(method: Method, args: unknown, part: (d: number, t: number) => void): Promise<unknown> {
    return new Promise((resolve, reject) => this.calls.push({ method, args, resolve, reject, part }));
  }
  async stop(): Promise<void> {
    this.stopped = true;
    for (const c of this.calls) c.reject(new EdgeNetError("NODE_MOVED", "gone"));
  }
}

/** A browser: a lock with its queue, a channel, a clock. */
class Origin {
  tabs: Opened[] = [];
  queue: { hold: () => Promise<void>; done: () => void }[] = [];
  held = false;
  t = 0;
  timers = new Map<number, { f: () => void; at: number }>();
  n = 0;
  most = 0;

  open(): Opened {
    const tab = new Opened(this, `t${this.tabs.length}`);
    this.tabs.push(tab);
    void tab.tab.join();
    return tab;
  }

  grant(): void {
    if (this.held || this.queue.length === 0) return;
    const { hold, done } = this.queue.shift()!;
    this.held = true;
    void hold().then(() => {
      this.held = false;
      done();
      this.grant();
    });
  }

  get running(): Opened[] {
    return this.tabs.filter((t) => t.engines.some((e) => !e.stopped) && !t.crashed);
  }

  /** Lets messages and promises go round. */
  async settle(): Promise<void> {
    for (let i = 0; i < 50; i++) await Promise.resolve();
    this.most = Math.max(this.most, this.running.length);
  }

  async pass(ms: number): Promise<void> {
    for (const end = this.t + ms; this.t < end; ) {
      this.t += Math.min(500, end - this.t);
      for (const [id, { f, at }] of [...this.timers]) if (at <= this.t && this.timers.delete(id)) f();
      await this.settle();
    }
  }
}

class Opened {
  engines: FakeEngine[] = [];
  events: Event[] = [];
  statsSeen: Stats[] = [];
  crashed = false;
  mute = false;
  readonly tab: Tab;
  private hear: (m: Between) => void = () => {};

  constructor(
    private readonly origin: Origin,
    readonly id: string,
  ) {
    const self = this;
    const hooks: Hooks = {
      event: (e) => this.events.push(e),
      stats: (s) => this.statsSeen.push(s),
      presence: () => {},
      stopped: () => {},
      consent: () => {},
      elected: () => {},
      leader: () => {},
    };
    this.tab = new Tab(
      {
        id,
        elect: (hold, signal) =>
          new Promise((done, reject) => {
            const entry = { hold, done };
            origin.queue.push(entry);
            signal.addEventListener("abort", () => {
              const at = origin.queue.indexOf(entry);
              if (at < 0) return;
              origin.queue.splice(at, 1);
              reject(new Error("aborted"));
            });
            origin.grant();
          }),
        channel: {
          post: (m) => {
            if (this.crashed || this.mute) return;
            for (const t of origin.tabs) if (t !== this && !t.crashed) queueMicrotask(() => t.hear(structuredClone(m)));
          },
          get onmessage() {
            return self.hear;
          },
          set onmessage(f) {
            self.hear = f;
          },
          close: () => {},
        },
        engine: () => {
          const e = new FakeEngine();
          this.engines.push(e);
          return e;
        },
        epoch: () => `epoch ${++origin.n}`,
        now: () => origin.t,
        setTimeout: (f, ms) => {
          origin.timers.set(++origin.n, { f, at: origin.t + ms });
          return origin.n;
        },
        clearTimeout: (t) => void origin.timers.delete(t as number),
      },
      hooks,
    );
  }

  submit(ms = 600_000, again = false): Promise<unknown> {
    const p = this.tab.call("submit", "job", { again, ms, late: () => new EdgeNetError("TIMEOUT", "late") });
    p.catch(() => {});
    return p;
  }

  /** As if its process were killed. */
  crash(): void {
    this.crashed = true;
    this.origin.held = false;
    this.origin.grant();
  }

  close(): Promise<void> {
    return this.tab.close(new EdgeNetError("DISCONNECTED", "closed"));
  }

  get engine(): FakeEngine {
    return this.engines[this.engines.length - 1]!;
  }
}

async function two(): Promise<[Origin, Opened, Opened]> {
  const o = new Origin();
  const a = o.open();
  const b = o.open();
  await o.settle();
  return [o, a, b];
}

test("two tabs, one node", async () => {
  const [o, a, b] = await two();
  equal(a.tab.leads, true);
  equal(b.tab.leads, false);
  equal(b.engines.length, 0);
  const r = b.submit();
  await o.settle();
  equal(a.engine.calls.length, 1);
  a.engine.calls[0]!.resolve("done");
  equal(await r, "done");
  const failed = b.submit();
  await o.settle();
  a.engine.calls[1]!.reject(new EdgeNetError("INSUFFICIENT", "no credits"));
  await rejects(failed, { code: "INSUFFICIENT" });
  equal(o.most, 1);
});

test("progress crosses tabs", async () => {
  const [o, a, b] = await two();
  const seen: number[] = [];
  const r = b.tab.call("submit", "job", { again: false, ms: 1e6, part: (d) => seen.push(d), late: () => new EdgeNetError("TIMEOUT", "") });
  await o.settle();
  a.engine.calls[0]!.part(1, 2);
  a.engine.calls[0]!.part(2, 2);
  await o.settle();
  a.engine.calls[0]!.resolve(0);
  await r;
  deepEqual(seen, [1, 2]);
});

test("events and figures reach every tab, marked with where the node runs", async () => {
  const [o, a, b] = await two();
  a.tab.publish({ event: { kind: "credit", credits: 1, total: 2, of: "work" } });
  a.tab.publish({ stats: { ...blank, peers: 3 } });
  await o.settle();
  for (const t of [a, b]) deepEqual(t.events, [{ kind: "credit", credits: 1, total: 2, of: "work" }]);
  const last = (t: Opened): Stats => t.statsSeen[t.statsSeen.length - 1]!;
  deepEqual([last(a).here, last(b).here, last(b).peers], [true, false, 3]);
});

test("closing hands over, after the old node ended", async () => {
  const [o, a, b] = await two();
  const old = a.engine;
  await a.close();
  await o.settle();
  equal(old.stopped, true);
  equal(b.tab.leads, true);
  equal(o.most, 1);
  const r = b.submit();
  await o.settle();
  b.engine.calls[0]!.resolve(1);
  equal(await r, 1);
  await rejects(a.submit(), { code: "DISCONNECTED" });
});

test("a job that the old tab had fails with a type, one that it had not is sent again", async () => {
  const [o, a, b] = await two();
  const had = b.submit();
  await o.settle();
  a.mute = true; // no ack comes for the next one
  const unheard = b.submit();
  await o.settle();
  a.crash();
  await o.settle();
  await rejects(had, { code: "NODE_MOVED" });
  equal(b.engine.calls.length, 1);
  b.engine.calls[0]!.resolve("by b");
  equal(await unheard, "by b");
});

test("a harmless call is sent again", async () => {
  const [o, a, b] = await two();
  const r = b.submit(1e6, true);
  await o.settle();
  a.crash();
  await o.settle();
  b.engine.calls[0]!.resolve("again");
  equal(await r, "again");
});

test("a third tab hears of the second one's turn", async () => {
  const [o, a, b] = await two();
  const c = o.open();
  await o.settle();
  const had = c.submit();
  await o.settle();
  a.crash();
  await o.settle();
  await rejects(had, { code: "NODE_MOVED" });
  const r = c.submit();
  await o.settle();
  b.engine.calls[0]!.resolve(5);
  equal(await r, 5);
  equal(o.most, 1);
});

test("a call made while nobody leads waits for one", async () => {
  const [o, a, b] = await two();
  const c = o.open();
  await o.settle();
  a.mute = true;
  await a.close();
  const r = c.submit();
  await o.pass(3500);
  equal(b.engine.calls.length, 1);
  b.engine.calls[0]!.resolve(1);
  equal(await r, 1);
});

test("a message that was lost is sent again, and done once", async () => {
  const [o, a, b] = await two();
  b.mute = true;
  const lost = b.submit();
  await o.settle();
  b.mute = false;
  await o.pass(3500);
  equal(a.engine.calls.length, 1);
  a.mute = true; // its ack is lost, so it hears the next one twice
  const twice = b.submit();
  await o.settle();
  a.mute = false;
  await o.pass(3500);
  equal(a.engine.calls.length, 2);
  a.engine.calls[0]!.resolve(1);
  a.engine.calls[1]!.resolve(2);
  deepEqual([await lost, await twice], [1, 2]);
});

test("a leader that says nothing any more fails calls with a type", async () => {
  const [o, a, b] = await two();
  const r = b.submit();
  await o.settle();
  a.mute = true; // frozen
  await o.pass(30_000);
  await rejects(r, { code: "NODE_SILENT" });
});

test("a leader that answers is waited for", async () => {
  const [o, a, b] = await two();
  const r = b.submit();
  await o.pass(120_000);
  a.engine.calls[0]!.resolve("late");
  equal(await r, "late");
});

test("no call outlives its deadline", async () => {
  const [o, a, b] = await two();
  const here = a.submit(5000);
  const there = b.submit(5000);
  await o.pass(5000);
  await rejects(here, { code: "TIMEOUT" });
  await rejects(there, { code: "TIMEOUT" });
  a.engine.calls[0]!.resolve("too late");
  await o.settle();
});

test("leaving fails what waits and frees timers", async () => {
  const [o, a, b] = await two();
  const there = b.submit();
  const here = a.submit();
  await o.settle();
  await b.close();
  await a.close();
  await rejects(there, { code: "DISCONNECTED" });
  await rejects(here, { code: "DISCONNECTED" });
  await o.pass(60_000);
  equal(o.timers.size, 0);
});

test("a hundred changes of hands, never two nodes", async () => {
  const o = new Origin();
  let seed = 1;
  const random = (n: number): number => (seed = (seed * 48271) % 2147483647) % n;
  const open: Opened[] = [];
  const calls: Promise<unknown>[] = [];
  for (let i = 0; i < 300; i++) {
    if (open.length < 2 || random(3) === 0) open.push(o.open());
    await o.settle();
    calls.push(open[random(open.length)]!.submit(1000 * (1 + random(60))));
    if (random(2) === 0) await o.pass(random(4000));
    for (const t of open) for (const c of t.engines.flatMap((e) => e.calls)) if (random(3) === 0) c.resolve(1);
    if (open.length > 4) {
      const [t] = open.splice(random(open.length), 1);
      if (t!.tab.leads && random(2) === 0) t!.crash();
      else await t!.close();
      if (t!.crashed) o.tabs.splice(o.tabs.indexOf(t!), 1);
    }
    await o.settle();
  }
  await o.pass(100_000);
  equal(o.most, 1);
  equal(o.running.length, 1);
  await Promise.allSettled(calls); // none hangs
});
