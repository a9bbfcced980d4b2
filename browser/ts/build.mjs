// Builds the package into ../dist: the node, compiled by Go, and the bundles. With
// --scripts, or into a directory given as argument, only the bundles, which
// then load the node that is there. With --plain the node has no compressed
// copies, which take a minute and which no test needs.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const args = process.argv.slice(2);
const given = args.find((a) => !a.startsWith("--"));
const out = given ?? here("../dist");
const plain = args.includes("--plain");
const scriptsOnly = given !== undefined || args.includes("--scripts");
const { name, version, license } = JSON.parse(readFileSync(here("package.json"), "utf8"));
const common = { bundle: true, minify: true, target: "es2022", legalComments: "none", logLevel: "warning", absWorkingDir: here(".") };

const hash = (bytes, algorithm = "sha256", encoding = "hex") => createHash(algorithm).update(bytes).digest(encoding);

/** Writes bytes below a name that changes with them, and removes what an older build left. */
function hashed(dir, stem, suffix, bytes) {
  const sha256 = hash(bytes);
  const file = `${stem}.${sha256.slice(0, 16)}.${suffix}`;
  const own = new RegExp(`^${stem}\\.[0-9a-f]{16}\\.${suffix}(\\.br|\\.gz)?$`);
  for (const old of readdirSync(dir)) if (own.test(old) && !old.startsWith(file)) rmSync(`${dir}/${old}`);
  writeFileSync(`${dir}/${file}`, bytes);
  return { name: file, sha256, size: bytes.length };
}

/** Compiles the node for a tab. */
function compile(dir) {
  const raw = `${dir}/node.wasm.tmp`;
  execFileSync("go", ["run", "./browser/build", "-o", raw], { cwd: here("../.."), stdio: "inherit" });
  const bytes = readFileSync(raw);
  rmSync(raw);
  const asset = hashed(dir, "edgenet", "wasm", bytes);
  const at = `${dir}/${asset.name}`;
  if (plain) return asset;
  if (!existsSync(`${at}.br`)) {
    const params = {
      [constants.BROTLI_PARAM_QUALITY]: 11,
      [constants.BROTLI_PARAM_LGWIN]: 24,
      [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
    };
    writeFileSync(`${at}.br`, brotliCompressSync(bytes, { params }));
  }
  const packed = statSync(`${at}.br`).size;
  if (packed > 4_000_000) throw new Error(`the node has ${packed} bytes after brotli, at most 4,000,000 are allowed`);
  if (!existsSync(`${at}.gz`)) writeFileSync(`${at}.gz`, gzipSync(bytes, { level: 9 }));
  return asset;
}

/** The node that an earlier build left. Without one the bundles are complete but for it. */
function compiled(dir) {
  const found = readdirSync(dir).find((f) => /^edgenet\.[0-9a-f]{16}\.wasm$/.test(f));
  if (!found) return { name: "edgenet.wasm", sha256: hash(""), size: 0 };
  const bytes = readFileSync(`${dir}/${found}`);
  return { name: found, sha256: hash(bytes), size: bytes.length };
}

/** Go's support script of the toolchain that compiles the node. */
const goSupport = {
  name: "go",
  setup(b) {
    b.onResolve({ filter: /^go:wasm_exec$/ }, () => {
      const root = execFileSync("go", ["env", "GOROOT"], { cwd: here("../.."), encoding: "utf8" }).trim();
      return { path: `${root}/lib/wasm/wasm_exec.js` };
    });
  },
};

/** In tests that need no network, a program in JavaScript takes the node's place. */
const standIn = {
  name: "stand-in",
  setup(b) {
    b.onResolve({ filter: /^\.\/go$/ }, () => ({ path: here("testing/program.ts") }));
  },
};

/** The loader with everything that it starts. */
async function site(dir, wasm, plugins) {
  mkdirSync(dir, { recursive: true });
  const worker = async (entry) => {
    const r = await build({ ...common, entryPoints: [`src/${entry}.ts`], format: "iife", write: false, plugins });
    const bytes = r.outputFiles[0].contents;
    // A Worker is a classic script: one file, which any Worker constructor and
    // any Content-Security-Policy for Workers accepts.
    writeFileSync(`${dir}/${entry}.js`, bytes);
    return hashed(dir, entry, "js", bytes);
  };
  const files = { wasm, nodeWorker: await worker("node-worker"), taskWorker: await worker("task-worker") };
  const define = { MANIFEST: JSON.stringify({ version, ...files }) };
  await build({ ...common, entryPoints: { "edge-net": "src/index.ts" }, outdir: dir, format: "esm", define });
  await build({
    ...common,
    entryPoints: { "edge-net.min": "src/global.ts" },
    outdir: dir,
    format: "iife",
    define,
    logOverride: { "empty-import-meta": "silent" }, // the script's own address is used
  });
  const integrity = Object.fromEntries(
    ["edge-net.js", "edge-net.min.js"].map((f) => [f, `sha384-${hash(readFileSync(`${dir}/${f}`), "sha384", "base64")}`]),
  );
  writeFileSync(`${dir}/manifest.json`, `${JSON.stringify({ version, ...files, integrity }, null, 2)}\n`);
}

mkdirSync(out, { recursive: true });
await site(out, scriptsOnly ? compiled(out) : compile(out), [goSupport]);

// The declarations of api.ts need no other file; the value is added to them.
const types = `${out}/test/types`;
execFileSync(here("node_modules/.bin/tsc"), ["--declaration", "--emitDeclarationOnly", "--noEmit", "false", "--outDir", types, "-p", here("tsconfig.types.json")]);
writeFileSync(
  `${out}/edge-net.d.ts`,
  `${readFileSync(`${types}/api.d.ts`, "utf8")}export declare const EdgeNet: API;
export default EdgeNet;
declare global {
  interface Window {
    EdgeNet: API & { EdgeNetError: typeof EdgeNetError };
  }
}
`,
);

cpSync(here("../examples"), out, { recursive: true });
const files = ["edge-net.js", "edge-net.min.js", "edge-net.d.ts", "node-worker.*", "task-worker.*", "edgenet.*", "manifest.json"];
writeFileSync(
  `${out}/package.json`,
  `${JSON.stringify({ name, version, license, type: "module", main: "edge-net.js", types: "edge-net.d.ts", exports: { ".": { types: "./edge-net.d.ts", default: "./edge-net.js" }, "./*": "./*" }, files, sideEffects: ["*.min.js"] }, null, 2)}\n`,
);

// What follows is for tests and never shipped.

// Drives task Workers in the conformance tests.
await build({ ...common, entryPoints: { "engine-page": "engine-page.ts" }, outdir: `${out}/test`, format: "iife" });
const units = readdirSync(here(".")).filter((f) => f.endsWith(".test.ts"));
await build({
  ...common,
  entryPoints: Object.fromEntries(["node-runner.ts", ...units].map((f) => [f.replace(/\.ts$/, ""), f])),
  outdir: `${out}/test`,
  outExtension: { ".js": ".mjs" },
  format: "esm",
  platform: "node",
});
const stand = `${out}/test/stand-in`;
mkdirSync(stand, { recursive: true });
const emptyModule = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0);
await site(stand, hashed(stand, "edgenet", "wasm", emptyModule), [standIn]);
