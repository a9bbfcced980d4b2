import { equal, ok } from "node:assert/strict";
import { test } from "node:test";
import { compile, execute } from "./src/execute";
import { Status } from "./src/protocol";

/** A reactor that never ends, metered in sliced form: sandbox/enginetest.Spin. */
const spin = Uint8Array.from(
  atob(
    "AGFzbQEAAAABOApgAX8Bf2ACf38BfmAAAGABfwBgAn9/AX9gBH9/f38Bf2ADf35/AX9gBH9/f38AYAABf2ABfgF+AioCB2VkZ2VuZXQIcHJvZ3Jlc3MAAwxlZGdlbmV0Omhvc3QGcmVmdWVsAAkDAwIAAQUGAQEBgIABBhADfgFCAAt/AUEAC38BQQALB1MGBm1lbW9yeQIADWVkZ2VuZXRfYWxsb2MAAgdleGVjdXRlAAMMZWRnZW5ldDpmdWVsAwANZWRnZW5ldDpkZXB0aAMBDWVkZ2VuZXQ6cGFnZXMDAgq2AQIwAQF+An8CQCMAQgF9IgFCAFMEQCABEAEiAUIAUw0BC0GACAwBCyABJAAACyABJAALggEGAn8BfgF9AXwBewF+IwFBGmskAQJ+AkAjAUEASARAAAsjACIIQgBTBEAgCBABIghCAFMNAQsDQCAIQsUAfSIIQgBTBEAgCBABIghCAFMNAgsgCCQAQQEgCCQAEAAjAEIBfSEIDAALIAhCAX0hCAALIAgkAAALIAgkACMBQRpqJAEL",
  ),
  (c) => c.charCodeAt(0),
);

// A worker is paid for what it used of a task whose time ran out everywhere.
test("a run that is out of time tells what it used", () => {
  for (const slices of [1, 5]) {
    const limits = { fuel: 1e12, memory: 1 << 20, output: 100, log: 100 };
    const run = { id: 1, moduleId: "spin", abi: 2, startFuel: 4099, minPages: 1, input: new Uint8Array(0), limits, seed: new Uint8Array(32), slice: 100_000 };
    let asked = 0;
    const r = execute(compile(spin), run, { progress: () => {}, log: () => {}, pause: () => ++asked >= slices });
    equal(r.status, Status.timeout);
    ok(Math.abs(r.fuel - run.startFuel - slices * run.slice) < 1000, `${r.fuel} fuel in ${slices} slices`);
  }
});
