import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "node:test";
import type { Stats } from "./src/api";
import { EdgeNetError } from "./src/api";
import { blank, type NodeWorker, Supervisor } from "./src/supervisor";
import type { Boot, Event, FromNode, ToNode } from "./src/wires";

class Fake implements NodeWorker {
  onmessage: (m: FromNode) => void = () => {};
  onfail: (e: EdgeNetError) => void = () => {};
  posts: ToNode[] = [];
  ended = false;
  post(m: ToNode): void {
    this.posts.push(m);
  }
  terminate(): void {
    this.ended = true;
  }
  get calls(): ToNode[] {
    return this.posts.filter((p) => p.call);
  }
}

class Bench {
  workers: Fake[] = [];
  events: Event[] = [];
  stats: Stats[] = [];
  timers = new Map<number, { f: () => void; ms: number }>();
  n = 0;
  refuse: EdgeNetError | undefined;
  readonly s = new Supervisor({
    spawn: () => {
      if (this.refuse) return Promise.reject(this.refuse);
      const w = new Fake();
      this.workers.push(w);
      return Promise.resolve(w);
    },
    boot: () => ({}) as Boot,
    stats: (s) => this.stats.push(s),
    event: (e) => this.events.push(e),
    progress: () => {},
    setTimeout: (f, ms) => {
      this.timers.set(++this.n, { f, ms });
      return this.n;
    },
    clearTimeout: (t) => void this.timers.delete(t as number),
  });
  get worker(): Fake {
    return this.workers[this.workers.length - 1]!;
  }
  /** Fires every timer; returns their delays. */
  fire(): number[] {
    const all = [...this.timers.values()];
    this.timers.clear();
    for (const t of all) t.f();
    return all.map((t) => t.ms);
  }
  call(): Promise<unknown> {
    const p = this.s.call("submit", "job", () => {});
    p.catch(() => {});
    return p;
  }
}

const tick = async (): Promise<void> => {
  for (let i = 0; i < 10; i++) await Promise.resolve();
};

test("it starts when there is something to do, and calls wait for it", async () => {
  const b = new Bench();
  await tick();
  equal(b.workers.length, 0);
  const r = b.call();
  b.s.start();
  await tick();
  equal(b.workers.length, 1);
  equal(b.worker.calls.length, 0);
  b.worker.onmessage({ started: true });
  const { id } = b.worker.calls[0]!.call!;
  b.worker.onmessage({ reply: { id, ok: 4 } });
  equal(await r, 4);
});

test("after a fault: calls that it had fail, those that wait go to the next", async () => {
  const b = new Bench();
  const had = b.call();
  await tick();
  b.worker.onmessage({ started: true });
  b.worker.onmessage({ down: { code: "NODE_CRASHED", message: "panic" } });
  await rejects(had, { code: "NODE_CRASHED" });
  equal(b.worker.ended, true);
  equal(b.stats[b.stats.length - 1]!.state, "starting");
  const waits = b.call();
  b.fire();
  await tick();
  equal(b.workers.length, 2);
  b.worker.onmessage({ started: true });
  b.worker.onmessage({ reply: { id: b.worker.calls[0]!.call!.id, ok: "yes" } });
  equal(await waits, "yes");
});

test("it waits longer each time, up to a minute, and less after steady work", async () => {
  const b = new Bench();
  b.s.start();
  const delays: number[] = [];
  for (let i = 0; i < 8; i++) {
    await tick();
    b.worker.onmessage({ down: { code: "RELAY_UNREACHABLE", message: "" } });
    delays.push(...b.fire());
  }
  deepEqual(delays, [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
  await tick();
  b.worker.onmessage({ started: true });
  b.fire(); // a minute of work
  b.worker.onmessage({ down: { code: "NODE_CRASHED", message: "" } });
  deepEqual(b.fire(), [1000]);
});

test("what cannot be mended is not tried again", async () => {
  const b = new Bench();
  const r = b.call();
  await tick();
  b.worker.onmessage({ down: { code: "CSP_WASM", message: "refused" } });
  await rejects(r, { code: "CSP_WASM" });
  equal(b.timers.size, 0);
  await rejects(b.call(), { code: "CSP_WASM" });
  equal(b.stats[b.stats.length - 1]!.state, "failed");
  deepEqual(b.events, [{ kind: "error", error: { code: "CSP_WASM", message: "refused" } }]);
  equal(b.workers.length, 1);
});

test("a Worker that the page may not start", async () => {
  const b = new Bench();
  b.refuse = new EdgeNetError("CSP_WORKER", "no");
  await rejects(b.call(), { code: "CSP_WORKER" });
  const c = new Bench();
  c.refuse = new EdgeNetError("ASSET_UNREACHABLE", "offline");
  const waits = c.call();
  await tick();
  c.refuse = undefined;
  equal(c.s.why()?.code, "ASSET_UNREACHABLE");
  c.fire();
  await tick();
  c.worker.onmessage({ started: true });
  equal(c.s.why(), undefined);
  c.worker.onmessage({ reply: { id: c.worker.calls[0]!.call!.id, err: { code: "BUSY", message: "" } } });
  await rejects(waits, { code: "BUSY" });
});

test("stopping asks it to leave, and does not wait for ever", async () => {
  for (const answers of [true, false]) {
    const b = new Bench();
    const r = b.call();
    await tick();
    b.worker.onmessage({ started: true });
    const end = b.s.stop();
    await rejects(r, { code: "NODE_MOVED" });
    equal(b.worker.posts[b.worker.posts.length - 1]!.call!.method, "close");
    if (answers) b.worker.onmessage({ reply: { id: 0 } });
    else b.fire();
    await end;
    equal(b.worker.ended, true);
    await rejects(b.call(), { code: "NODE_MOVED" });
  }
});

test("a Worker that comes too late is ended", async () => {
  const b = new Bench();
  b.s.start();
  const end = b.s.stop();
  await tick();
  await end;
  equal(b.worker.ended, true);
});

test("the last figures stay when it ends", async () => {
  const b = new Bench();
  b.s.start();
  await tick();
  b.worker.onmessage({ stats: { ...blank, state: "working", credits: 5, peers: 2 } });
  b.worker.onmessage({ down: { code: "NODE_CRASHED", message: "panic" } });
  const s = b.s.stats()!;
  deepEqual([s.credits, s.peers, s.reason], [5, 0, "panic"]);
});
