// Builds the bundles into ../dist, or into the directory given as argument.
import { build } from "esbuild";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const out = process.argv[2] ?? here("../dist");
const common = { bundle: true, minify: true, target: "es2022", legalComments: "none", logLevel: "warning", absWorkingDir: here(".") };

// A task Worker is a classic script: one file, which any Worker constructor
// and any Content-Security-Policy for workers accepts.
await build({ ...common, entryPoints: { "task-worker": "src/task-worker.ts" }, outdir: out, format: "iife" });

// What drives task Workers in the conformance tests; never shipped.
await build({ ...common, entryPoints: { "engine-page": "engine-page.ts" }, outdir: `${out}/test`, format: "iife" });
await build({
  ...common,
  entryPoints: { "node-runner": "node-runner.ts", "throttle.test": "throttle.test.ts" },
  outdir: `${out}/test`,
  outExtension: { ".js": ".mjs" },
  format: "esm",
  platform: "node",
});
