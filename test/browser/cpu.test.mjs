// What the visitor agreed to holds inside tasks: CPU time of the task Workers'
// threads from /proc, beside a Worker that nothing limits.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { cpuShare } from "./cpu.mjs";
import { browser } from "./harness.mjs";

let chromium;
before(async () => (chromium = await browser()));
after(() => chromium.close());

for (const limit of [0.1, 0.3, 0.5]) {
  test(`${100 * limit} % of the processor`, async () => {
    const { used, free, cores } = await cpuShare(chromium, limit, 6000);
    console.log(JSON.stringify({ limit, cores, used, free }));
    // A busy machine takes CPU from both: never more than the limit, and no
    // less of it than the Worker without limit gets of its core.
    assert.ok(used <= 1.1 * limit, `${used} of all cores were used`);
    assert.ok(used >= 0.9 * limit * free, `${used} of all cores were used; without limit a Worker gets ${free} of one`);
  });
}
