// A node Worker for tests: the host that Go expects, with one task Worker per
// run, driven by commands of the test over HTTP. Byte arrays travel as
// {"$bytes": base64}.
importScripts("wasm_exec.js");

const encode = (v) => {
  if (v instanceof Uint8Array) return { $bytes: btoa(Array.from(v, (b) => String.fromCharCode(b)).join("")) };
  if (Array.isArray(v)) return v.map(encode);
  if (v && typeof v === "object") return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, encode(x)]));
  return v;
};
const decode = (v) => {
  if (Array.isArray(v)) return v.map(decode);
  if (v && typeof v === "object") {
    if ("$bytes" in v) return Uint8Array.from(atob(v.$bytes), (c) => c.charCodeAt(0));
    return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, decode(x)]));
  }
  return v;
};
const post = (path, body) => fetch(path, { method: "POST", body: JSON.stringify(body) });

const code = new Map();
const workers = new Map();
let ready;
const isReady = new Promise((r) => (ready = r));
const statuses = {
  1: "ok", 2: "trap", 3: "out-of-fuel", 4: "stack-limit", 5: "exit-non-zero", 6: "bad-output", 100: "timeout", 103: "host-oom",
};

globalThis.edgenetHost = {
  ready,
  event: (kind, json) => post("event", { kind, ...JSON.parse(json) }),
  resolve: async () => (await fetch("relays")).json(),
  cancel: (id) => {
    workers.get(id)?.terminate();
    workers.delete(id);
  },
  execute: (r) => {
    if (r.code) code.set(r.key, r.code);
    const bytes = code.get(r.key);
    if (!bytes) return Promise.resolve({ needCode: true });
    return new Promise((done, failed) => {
      const worker = new Worker("task-worker.js");
      workers.set(r.id, worker);
      const end = () => {
        worker.terminate();
        workers.delete(r.id);
      };
      worker.onerror = (e) => (end(), failed(new Error(e.message)));
      worker.onmessage = ({ data }) => {
        if (data.progress) r.progress(data.progress.permille);
        if (data.fault) end(), failed(new Error(data.fault.message));
        if (!data.result) return;
        end();
        const { status, exitCode, fuel, output, log } = data.result;
        done({ status: statuses[status], exitCode, fuel: String(fuel), output, log });
      };
      const limits = { fuel: Number(r.fuel), memory: r.memory, output: r.output, log: r.log, wall: r.wallMs };
      const { id, key, abi, startFuel, minPages, input, seed } = r;
      worker.postMessage({ run: { id, moduleId: key, bytes, abi, startFuel, minPages, input, seed, limits } });
    });
  },
};

const call = async ({ op, args }) => {
  try {
    await isReady;
    return { value: encode((await edgenetNode[op](...decode(args))) ?? null) };
  } catch (e) {
    return { code: e.code ?? "", message: String(e) };
  }
};

(async () => {
  const go = new Go();
  go.exit = (c) => post("event", { kind: "exit", code: c });
  const { instance } = await WebAssembly.instantiateStreaming(fetch("main.wasm"), go.importObject);
  go.run(instance).catch((e) => post("event", { kind: "exit", message: String(e) }));
  for (;;) {
    const response = await fetch("command");
    if (response.status === 205) return postMessage("reload");
    if (!response.ok) return; // the end of the test
    const command = await response.json();
    void call(command).then((answer) => post("answer?id=" + command.id, answer));
  }
})().catch((e) => post("event", { kind: "exit", message: String(e) }));
