// Runs modules in task Workers for a test on the other end of a byte stream.
// Frames in both directions: length (u32, of what follows), length of the head
// (u32), head (JSON), then the parts of the lengths that head.sizes names.
// Integers are little-endian.
import { type Reply, type Request, Status } from "./src/protocol";
import { Sink } from "./src/sink";

export interface TaskWorker {
  onreply: (reply: Reply) => void;
  onfail: (message: string) => void;
  post(request: Request): void;
  terminate(): void;
}

interface Head {
  op: string;
  id?: number;
  sizes?: number[];
  [field: string]: unknown;
}

function encode(head: Head, ...parts: Uint8Array[]): Uint8Array {
  const text = new TextEncoder().encode(JSON.stringify({ ...head, sizes: parts.map((p) => p.length) }));
  const frame = new Uint8Array(8 + text.length + parts.reduce((n, p) => n + p.length, 0));
  const view = new DataView(frame.buffer);
  view.setUint32(0, frame.length - 4, true);
  view.setUint32(4, text.length, true);
  frame.set(text, 8);
  let at = 8 + text.length;
  for (const p of parts) {
    frame.set(p, at);
    at += p.length;
  }
  return frame;
}

/** Splits a stream into frames. */
export class Frames {
  private chunks: Uint8Array[] = [];
  private have = 0;
  private want = 4;

  constructor(private readonly each: (head: Head, parts: Uint8Array[]) => void) {}

  push(chunk: Uint8Array): void {
    this.chunks.push(chunk);
    this.have += chunk.length;
    if (this.have < this.want) return;
    const all = new Uint8Array(this.have);
    let at = 0;
    for (const c of this.chunks) {
      all.set(c, at);
      at += c.length;
    }
    const view = new DataView(all.buffer);
    at = 0;
    this.want = 4;
    while (all.length - at >= 4) {
      const length = 4 + view.getUint32(at, true);
      if (all.length - at < length) {
        this.want = length;
        break;
      }
      this.frame(all.subarray(at + 4, at + length));
      at += length;
    }
    this.chunks = [all.subarray(at)];
    this.have = all.length - at;
  }

  private frame(b: Uint8Array): void {
    let at = 4 + new DataView(b.buffer, b.byteOffset).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(b.subarray(4, at))) as Head;
    const parts = (head.sizes ?? []).map((n) => b.slice(at, (at += n)));
    if (at !== b.length) throw new Error(`frame ${head.op}: ${b.length - at} bytes more than its parts`);
    this.each(head, parts);
  }
}

/** Answers run and cancel; returns what takes the incoming bytes. */
export function serve(spawn: () => TaskWorker, engine: string, send: (frame: Uint8Array) => void): Frames {
  const idle: TaskWorker[] = [];
  const busy = new Map<number, TaskWorker>();
  const logs = new Map<number, Sink>(); // of runs that are busy

  const end = (id: number, worker: TaskWorker): void => {
    logs.delete(id);
    if (busy.delete(id)) idle.push(worker);
  };
  const run = (head: Head, [bytes, input, seed]: Uint8Array[]): void => {
    const id = head.id!;
    const worker = busy.get(id) ?? idle.pop() ?? spawn();
    busy.set(id, worker);
    const log = new Sink();
    logs.set(id, log);
    worker.onreply = (reply) => {
      if ("result" in reply) {
        const { output, log, ...rest } = reply.result;
        end(id, worker);
        send(encode({ op: "result", ...rest }, output, log));
      } else if ("fault" in reply) {
        end(id, worker);
        send(encode({ op: "fault", ...reply.fault }));
      } else if ("progress" in reply) {
        send(encode({ op: "progress", ...reply.progress }));
      } else if ("log" in reply) {
        log.append(reply.log.bytes);
      } else if ("need" in reply) {
        send(encode({ op: "need", id })); // the worker stays ours: the run comes again
      } else {
        send(encode({ op: "compiled", id }));
      }
    };
    worker.onfail = (message) => {
      worker.terminate();
      const at = idle.indexOf(worker);
      if (at >= 0) idle.splice(at, 1);
      logs.delete(id);
      if (busy.delete(id)) send(encode({ op: "fault", id, message }));
    };
    const order = head.run as Omit<Request["run"], "id" | "bytes" | "input" | "seed">;
    worker.post({ run: { ...order, id, input: input!, seed: seed!, ...(bytes!.length > 0 && { bytes: bytes! }) } });
  };
  const cancel = (id: number): void => {
    const worker = busy.get(id);
    if (!worker) return; // it has answered
    busy.delete(id);
    worker.terminate();
    send(encode({ op: "stopped", id }, logs.get(id)!.bytes()));
    logs.delete(id);
  };
  send(encode({ op: "hello", engine, status: Status }));
  return new Frames((head, parts) => {
    if (head.op === "run") run(head, parts);
    else if (head.op === "cancel") cancel(head.id!);
    else throw new Error(`unknown frame ${head.op}`);
  });
}
