// Entry of the dedicated Worker that runs tasks, one at a time. Messages are
// those of protocol.ts; terminate() cancels.
import { type Code, compile, execute } from "./execute";
import { Kept } from "./kept";
import type { Reply, Request, Run } from "./protocol";
import { Throttle } from "./throttle";

interface Scope {
  onmessage: ((event: { data: Request }) => void) | null;
  postMessage(reply: Reply, transfer?: Transferable[]): void;
}

/** How many compiled modules are kept, and bytes of their metered form: machine code is several times larger. */
const compiledCap = 32;
const compiledBytes = 6 << 20;

/** Milliseconds between progress messages of a chatty guest. */
const progressEvery = 50;

const scope = globalThis as unknown as Scope;
const now = (): number => performance.now();
const throttle = new Throttle(now);
const compiled = new Kept<Code>(compiledCap, compiledBytes);

function lookup(run: Run): Code | undefined {
  let code = compiled.get(run.moduleId);
  if (!code && run.bytes) {
    code = compile(run.bytes);
    scope.postMessage({ compiled: { id: run.id } });
    compiled.add(run.moduleId, code, run.bytes.length);
  }
  return code;
}

scope.onmessage = ({ data: { run } }) => {
  const { id } = run;
  const cpu = run.cpu ?? 100;
  throttle.start();
  try {
    const code = lookup(run);
    if (!code) {
      scope.postMessage({ need: { id } });
      return;
    }
    const deadline = throttle.worked() + (run.limits.wall ?? Infinity); // what it sleeps does not count
    let last = -Infinity;
    const result = execute(code, run, {
      progress(permille) {
        const t = now();
        if (t - last < progressEvery) return;
        last = t;
        scope.postMessage({ progress: { id, permille } });
      },
      log(bytes) {
        scope.postMessage({ log: { id, bytes } });
      },
      pause() {
        throttle.pause(cpu);
        return throttle.worked() > deadline;
      },
    });
    scope.postMessage({ result }, [result.output.buffer as ArrayBuffer, result.log.buffer as ArrayBuffer]);
  } catch (e) {
    scope.postMessage({ fault: { id, message: String(e) } });
  }
  // Also what a module in plain form owes. The result is out already.
  throttle.pause(cpu);
};
