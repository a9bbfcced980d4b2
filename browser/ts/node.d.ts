// The part of Node's own modules that the test runner uses.

declare module "node:worker_threads" {
  export class Worker {
    constructor(source: string, options: { eval: true });
    on(event: "message", listener: (data: never) => void): void;
    on(event: "error", listener: (error: Error) => void): void;
    on(event: "exit", listener: (code: number) => void): void;
    postMessage(data: unknown): void;
    terminate(): Promise<number>;
  }
}

declare module "node:fs" {
  export function readFileSync(path: URL, encoding: "utf8"): string;
  export function readFileSync(path: URL): Uint8Array;
}

declare module "node:process" {
  const process: {
    version: string;
    versions: { v8: string };
    stdin: { on(event: "data", listener: (chunk: Uint8Array) => void): void; on(event: "end", listener: () => void): void };
    stdout: { write(chunk: Uint8Array): void };
    exit(code: number): never;
  };
  export default process;
}

declare module "node:assert/strict" {
  export function equal(got: unknown, want: unknown, message?: string): void;
  export function ok(value: unknown, message?: string): void;
  export function deepEqual(got: unknown, want: unknown, message?: string): void;
  export function throws(f: () => unknown, want: object | ((e: never) => boolean)): void;
  export function rejects(p: Promise<unknown>, want: object | ((e: never) => boolean)): Promise<void>;
}

declare module "node:zlib" {
  export function gzipSync(data: Uint8Array, options: { level: number }): Uint8Array;
}

declare module "node:test" {
  export function test(name: string, run: () => void | Promise<void>): void;
}

interface ImportMeta {
  url: string;
}
