// Serves frames of a loopback server with the shipped task Worker in a
// browser: GET frames waits for some, POST frames delivers ours.
import { serve, type TaskWorker } from "./engine-host";

function spawn(): TaskWorker {
  const worker = new Worker("task-worker.js");
  const t: TaskWorker = {
    onreply: () => {},
    onfail: () => {},
    post: (request) => worker.postMessage(request),
    terminate: () => worker.terminate(),
  };
  worker.onmessage = (e) => t.onreply(e.data);
  worker.onerror = (e) => t.onfail(e.message);
  return t;
}

// One request at a time keeps frames in order.
const queue: Uint8Array[] = [];
let sending = false;
async function flush(): Promise<void> {
  if (sending) return;
  sending = true;
  while (queue.length > 0) {
    await fetch("frames", { method: "POST", body: new Blob(queue.splice(0) as BlobPart[]) });
  }
  sending = false;
}

const frames = serve(spawn, navigator.userAgent, (frame) => {
  queue.push(frame);
  void flush();
});

async function receive(): Promise<void> {
  for (;;) {
    const response = await fetch("frames");
    if (!response.ok) return; // the end of the test
    frames.push(new Uint8Array(await response.arrayBuffer()));
  }
}
void receive();
