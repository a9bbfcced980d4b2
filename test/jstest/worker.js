// Runs a Go test binary in this Worker. Requests are synchronous, so that what
// is printed arrives in order and before the end.
function post(path, body) {
  const r = new XMLHttpRequest();
  r.open("POST", path, false);
  r.send(body);
}
importScripts("wasm_exec.js");
globalThis.fs.writeSync = (fd, buf) => {
  post("out", buf.slice());
  return buf.length;
};
const go = new Go();
let code = 0;
go.exit = (c) => (code = c);
(async () => {
  go.argv = await (await fetch("argv")).json();
  const { instance } = await WebAssembly.instantiateStreaming(fetch("main.wasm"), go.importObject);
  await go.run(instance);
  post("exit", String(code));
})().catch((e) => post("exit", String(e)));
