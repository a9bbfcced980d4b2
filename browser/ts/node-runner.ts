// Serves frames on stdin and stdout with the shipped task Worker in Node's
// worker threads.
import { readFileSync } from "node:fs";
import process from "node:process";
import { Worker } from "node:worker_threads";
import { serve, type TaskWorker } from "./engine-host";
import type { Reply } from "./src/protocol";

// A worker thread talks through parentPort where a browser's Worker has two
// globals; the script itself is the one that browsers load.
const source = `const { parentPort } = require("node:worker_threads");
globalThis.postMessage = (data, transfer) => parentPort.postMessage(data, transfer);
parentPort.on("message", (data) => globalThis.onmessage({ data }));
${readFileSync(new URL("../task-worker.js", import.meta.url), "utf8")}`;

function spawn(): TaskWorker {
  const worker = new Worker(source, { eval: true });
  const t: TaskWorker = {
    onreply: () => {},
    onfail: () => {},
    post: (request) => worker.postMessage(request),
    terminate: () => void worker.terminate(),
  };
  worker.on("message", (reply: Reply) => t.onreply(reply));
  worker.on("error", (e) => t.onfail(String(e)));
  worker.on("exit", (code) => t.onfail(`worker ended with code ${code}`));
  return t;
}

const frames = serve(spawn, `Node ${process.version}, V8 ${process.versions.v8}`, (frame) => process.stdout.write(frame));
process.stdin.on("data", (chunk) => frames.push(chunk));
process.stdin.on("end", () => process.exit(0)); // the end of the test
