// Takes the place of the node's program in browser tests of everything around
// it: the same entry points, without a network. What it should do is written
// in the first multiaddr of its bootstrap list: /stand-in/<JSON>.
import type { GoNode, Host } from "../src/boundary";

interface Script {
  /** Milliseconds that a submitted job takes. */
  submitMs?: number;
  /** Ends after so many milliseconds, as by a fault. */
  dieAfterMs?: number;
  /** Runs tasks that spin for so much fuel, one after the other, while allowed. */
  spin?: { code: string; fuel: number };
  creditMicro?: number;
  /** Tells, as a task's event, what it was started with and what it is to do. */
  tell?: boolean;
}

const scope = globalThis as unknown as { edgenetHost: Host; edgenetNode: GoNode };

export async function runProgram(_module: WebAssembly.Module): Promise<void> {
  const host = scope.edgenetHost;
  let paused = "starting";
  let peerId = "";
  let credits = 0;
  let ran = 0;
  let id = 1;
  const began = Date.now();
  let die: () => void = () => {};
  const died = new Promise<void>((r) => (die = r));
  let tells = false;
  const tell = (type: string, given: object) => {
    const plain = (_: string, v: unknown) => (v instanceof Uint8Array ? Array.from(v) : v);
    if (tells) host.event("task", JSON.stringify({ id: type, type, status: "ok", given }, plain));
  };

  scope.edgenetNode = {
    async start(config) {
      const script = JSON.parse(config.bootstrap.find((a) => a.startsWith("/stand-in/"))?.slice(10) ?? "{}") as Script;
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", config.seed as BufferSource));
      peerId = Array.from(digest.subarray(0, 8), (b) => b.toString(16).padStart(2, "0")).join("");
      if (script.dieAfterMs) setTimeout(die, script.dieAfterMs);
      paused = config.work ? "" : "not asked to work";
      tells = script.tell === true;
      setTimeout(() => tell("start", { ...config, seed: undefined }), 100); // once the page listens
      void work(script);
      submitMs = script.submitMs ?? 10;
      return { peerId };
    },
    async submit(job, progress) {
      tell("submit", job);
      if (job.tasks.some((t) => t.payload?.includes("refuse me"))) throw { code: "INSUFFICIENT", message: "the balance does not cover it" };
      await new Promise((r) => setTimeout(r, submitMs));
      job.tasks.forEach((_, i) => progress?.(i + 1, job.tasks.length));
      return {
        costMicro: "1500000",
        results: job.tasks.map((t) => ({
          status: "ok",
          output: new TextEncoder().encode(t.payload ?? ""),
          log: new Uint8Array(0),
          json: JSON.stringify({ echo: JSON.parse(t.payload ?? "null") as unknown, verified: "a worker's word" }),
          verified: job.redundancy > 1,
          workers: Array.from({ length: job.redundancy }, (_, i) => `worker${i}`),
          receipts: [Uint8Array.of(1, 2, 3)],
          costMicro: "1500000",
          fuel: "42",
        })),
      };
    },
    async quote(job) {
      tell("quote", job);
      return { holdMicro: "1000", taskMicro: "1010000", mostMicro: "1500000", budgetMicro: job.maxMicro, priceMicro: "1000000" };
    },
    stats: () => ({
      peerId,
      peers: 1,
      creditsMicro: String(credits),
      heldMicro: "0",
      receivableMicro: "0",
      tasksRun: ran,
      tasksAccepted: ran,
      running: 0,
      paused,
      uptimeMs: Date.now() - began,
      reputationPpm: 500_000,
    }),
    pause: async (reason) => void (paused = reason),
    resume: async () => void (paused = ""),
    limits: async () => {},
    relays: async () => {},
    disconnect: async () => {},
  };
  let submitMs = 10;

  async function work(script: Script): Promise<void> {
    if (!script.spin) return;
    const code = Uint8Array.from(atob(script.spin.code), (c) => c.charCodeAt(0));
    let known = false;
    for (;;) {
      if (paused !== "") {
        await new Promise((r) => setTimeout(r, 50));
        continue;
      }
      const r = await host.execute({
        id: id++,
        key: "spin",
        code: known ? null : code,
        input: new Uint8Array(0),
        fuel: String(script.spin.fuel),
        memory: 1 << 20,
        output: 1024,
        log: 1024,
        wallMs: 0,
        seed: new Uint8Array(32),
        abi: 2,
        startFuel: 0,
        minPages: 1,
      });
      known = true;
      if (r.status === "cancelled" || r.status === "killed") {
        await new Promise((done) => setTimeout(done, 50));
        continue;
      }
      ran++;
      credits += script.creditMicro ?? 1000;
      host.event("credit", JSON.stringify({ changeMicro: String(script.creditMicro ?? 1000), creditsMicro: String(credits) }));
      host.event("task", JSON.stringify({ id: String(id), type: "spin", status: r.status }));
    }
  }
  host.ready();
  await died;
}
