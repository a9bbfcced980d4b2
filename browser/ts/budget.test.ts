import { ok } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

// KiB after gzip -9.
for (const [file, budget] of [
  ["edge-net.js", 30],
  ["edge-net.min.js", 30],
  ["node-worker.js", 30],
  ["task-worker.js", 10],
] as const) {
  test(`${file} is at most ${budget} KiB`, () => {
    const size = gzipSync(readFileSync(new URL(`../${file}`, import.meta.url)), { level: 9 }).length;
    ok(size <= budget * 1024, `it is ${size} bytes`);
  });
}
