import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { type Executed, type Execution, Pool, size, type TaskWorker } from "./src/pool";
import { type Request, Status } from "./src/protocol";

/** A Worker that does what the test says. */
class Fake implements TaskWorker {
  onreply: TaskWorker["onreply"] = () => {};
  onfail: TaskWorker["onfail"] = () => {};
  posts: Request[] = [];
  ended = false;
  post(r: Request): void {
    if (this.ended) throw new Error("a Worker that was ended got a message");
    this.posts.push(r);
  }
  terminate(): void {
    this.ended = true;
  }
  get run(): Request["run"] {
    return this.posts[this.posts.length - 1]!.run;
  }
  log(text: string): void {
    this.onreply({ log: { id: this.run.id, bytes: new TextEncoder().encode(text) } });
  }
  need(): void {
    this.onreply({ need: { id: this.run.id } });
  }
  compiled(): void {
    this.onreply({ compiled: { id: this.run.id } });
  }
  done(status: Status = Status.ok): void {
    this.onreply({ result: { id: this.run.id, status, exitCode: 0, fuel: 7, output: Uint8Array.of(1), log: new Uint8Array(0) } });
  }
}

class Bench {
  workers: Fake[] = [];
  timers = new Map<number, { f: () => void; at: number }>();
  t = 0;
  private n = 0;
  readonly pool: Pool;
  constructor(slots = 1, cpu = 50) {
    this.pool = new Pool({
      spawn: () => {
        const w = new Fake();
        this.workers.push(w);
        return w;
      },
      slots,
      cpu,
      timer: {
        set: (f, ms) => {
          this.timers.set(++this.n, { f, at: this.t + ms });
          return this.n;
        },
        clear: (t) => this.timers.delete(t as number),
      },
    });
  }
  pass(ms: number): void {
    this.t += ms;
    for (const [id, { f, at }] of [...this.timers]) {
      if (at <= this.t && this.timers.delete(id)) f();
    }
  }
  get alive(): number {
    return this.workers.filter((w) => !w.ended).length;
  }
}

const task = (id: number, more: Partial<Execution> = {}): Execution => ({
  id,
  key: "k",
  code: Uint8Array.of(0),
  input: new Uint8Array(0),
  fuel: "1000",
  memory: 1 << 20,
  output: 100,
  log: 100,
  wallMs: 1000,
  seed: new Uint8Array(32),
  abi: 2,
  startFuel: 0,
  minPages: 1,
  ...more,
});

const status = async (p: Promise<Executed>): Promise<string> => (await p).status;

test("what a guest logged outlives its Worker", async () => {
  const b = new Bench();
  const late = b.pool.execute(task(1));
  b.workers[0]!.compiled();
  b.workers[0]!.log("first ");
  b.workers[0]!.log("second");
  b.workers[0]!.log("x".repeat(100)); // above the limit
  b.pass(10_000);
  const r = await late;
  equal(r.status, "timeout");
  equal(new TextDecoder().decode(r.log), "first second");
});

test("code is sent once per Worker and named afterwards", async () => {
  const b = new Bench();
  const first = b.pool.execute(task(1));
  const w = b.workers[0]!;
  equal(w.run.bytes, undefined);
  w.need();
  deepEqual(w.run.bytes, Uint8Array.of(0));
  equal(w.run.cpu, 50);
  w.compiled();
  w.done();
  deepEqual(await first, { status: "ok", exitCode: 0, output: Uint8Array.of(1), fuel: "7", log: new Uint8Array(0) });
  const second = b.pool.execute(task(2, { code: null }));
  equal(w.run.bytes, undefined);
  w.done(Status.trap);
  equal(await status(second), "trap");
  equal(b.workers.length, 1);
});

test("code that is not here is asked for", async () => {
  const b = new Bench();
  equal((await b.pool.execute(task(1, { code: null }))).needCode, true);
  equal(b.workers.length, 0);
});

test("code beyond the cap is forgotten, oldest first", async () => {
  const b = new Bench();
  for (const [id, key] of [
    [1, "a"],
    [2, "b"],
    [3, "c"],
  ] as const) {
    void b.pool.execute(task(id, { key, code: new Uint8Array(12 << 20) }));
  }
  equal((await b.pool.execute(task(4, { key: "a", code: null }))).needCode, true);
  void b.pool.execute(task(5, { key: "c", code: null }));
  equal(b.pool.running, 1);
});

test("not more Workers than slots, in order", async () => {
  const b = new Bench(2);
  const all = [1, 2, 3, 4].map((id) => b.pool.execute(task(id)));
  equal(b.workers.length, 2);
  equal(b.pool.running, 2);
  b.workers[1]!.done();
  equal(b.workers[1]!.run.id, 3);
  b.workers[0]!.done();
  b.workers[0]!.done();
  b.workers[1]!.done();
  for (const p of all) equal(await status(p), "ok");
  equal(b.workers.length, 2);
});

test("cancel ends the Worker of a run, and only its", async () => {
  const b = new Bench(1);
  const first = b.pool.execute(task(1));
  const second = b.pool.execute(task(2));
  const third = b.pool.execute(task(3));
  b.pool.cancel(2);
  equal(await status(second), "cancelled");
  equal(b.workers[0]!.ended, false);
  b.pool.cancel(1);
  b.pool.cancel(1);
  b.pool.cancel(99);
  equal(await status(first), "cancelled");
  equal(b.workers[0]!.ended, true);
  equal(b.workers[1]!.run.id, 3);
  b.workers[0]!.onreply({ result: { id: 1, status: 1, exitCode: 0, fuel: 1, output: new Uint8Array(0), log: new Uint8Array(0) } });
  b.workers[1]!.done();
  equal(await status(third), "ok");
});

test("stop ends everything at once and lets nothing in", async () => {
  const b = new Bench(2);
  const all = [1, 2, 3].map((id) => b.pool.execute(task(id)));
  b.pool.stop("no consent");
  equal(b.alive, 0);
  for (const p of all) deepEqual([(await p).status, (await p).message], ["cancelled", "no consent"]);
  equal(await status(b.pool.execute(task(4))), "cancelled");
  equal(b.alive, 0);
  b.pool.start();
  const again = b.pool.execute(task(5));
  b.workers.find((w) => !w.ended)!.done();
  equal(await status(again), "ok");
});

test("clocks: compiling, running, and a Worker without work", async () => {
  const b = new Bench();
  const slow = b.pool.execute(task(1));
  b.workers[0]!.need();
  b.pass(9_999);
  equal(b.alive, 1);
  b.pass(1);
  equal(await status(slow), "compile-timeout");
  const long = b.pool.execute(task(2));
  b.workers[1]!.need();
  b.pass(9_000);
  b.workers[1]!.compiled();
  b.pass(1_250); // half a core: its limit of one second may take two, and one more
  equal(b.alive, 1);
  b.pass(2_000);
  equal(await status(long), "timeout");
  equal(b.alive, 0);
  const short = b.pool.execute(task(3));
  b.workers[2]!.done();
  await short;
  b.pass(29_999);
  equal(b.alive, 1);
  b.pass(1);
  equal(b.alive, 0);
});

test("a Worker that fails costs its run only", async () => {
  const b = new Bench();
  const first = b.pool.execute(task(1));
  const second = b.pool.execute(task(2));
  b.workers[0]!.onfail("out of memory");
  deepEqual([(await first).status, (await first).message], ["killed", "out of memory"]);
  b.workers[1]!.onreply({ fault: { id: 2, message: "engine" } });
  equal(await status(second), "killed");
  equal(b.alive, 0);
});

test("no Worker can be made", async () => {
  const pool = new Pool({
    spawn: () => {
      throw new Error("refused");
    },
    slots: 1,
    cpu: 100,
  });
  equal(await status(pool.execute(task(1))), "killed");
});

test("progress goes to whom it is for", async () => {
  const b = new Bench(2);
  const seen: string[] = [];
  const all = [1, 2].map((id) => b.pool.execute(task(id, { progress: (p) => seen.push(`${id}: ${p}`) })));
  b.workers[1]!.onreply({ progress: { id: 2, permille: 500 } });
  b.workers[0]!.onreply({ progress: { id: 1, permille: 900 } });
  for (const w of b.workers) w.done();
  await Promise.all(all);
  deepEqual(seen, ["2: 500", "1: 900"]);
});

test("bad orders do no harm", async () => {
  const b = new Bench();
  for (const fuel of ["-1", "x", "9007199254740993", "1e300"]) equal(await status(b.pool.execute(task(1, { fuel }))), "killed");
  void b.pool.execute(task(1));
  equal(await status(b.pool.execute(task(1))), "killed");
  const many = Array.from({ length: 100 }, (_, i) => b.pool.execute(task(10 + i)));
  equal(await status(many[99]!), "cancelled");
});

test("fewer slots let runs end", async () => {
  const b = new Bench(2);
  const all = [1, 2, 3].map((id) => b.pool.execute(task(id)));
  b.pool.resize(1, 20);
  equal(b.alive, 2);
  b.workers[0]!.done();
  equal(b.alive, 1);
  b.workers[1]!.done();
  equal(b.workers[1]!.run.cpu, 20);
  b.workers[1]!.done();
  for (const p of all) equal(await status(p), "ok");
});

test("a share of all cores becomes Workers with a share of one", () => {
  const gib = 1 << 30;
  deepEqual(size(0.3, 2, gib), { slots: 1, cpu: 60, memory: gib });
  deepEqual(size(0.5, 8, gib), { slots: 4, cpu: 100, memory: gib / 4 });
  deepEqual(size(0.3, 8, gib), { slots: 3, cpu: 80, memory: Math.floor(gib / 3) });
  deepEqual(size(1, 4, 256 << 20), { slots: 1, cpu: 100, memory: 256 << 20 });
  deepEqual(size(0.01, 1, gib), { slots: 1, cpu: 1, memory: gib });
  for (let cores = 1; cores <= 64; cores++) {
    for (const share of [0.01, 0.1, 0.3, 0.5, 1]) {
      const s = size(share, cores, 64 * gib);
      ok(Math.abs((s.slots * s.cpu) / 100 - share * cores) <= s.slots * 0.005 + 1e-9, `${share} of ${cores}`);
    }
  }
});
