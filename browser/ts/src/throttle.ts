/** A pause shorter than this is owed: timers are no finer, and neither is sleep. */
const quantum = 4;

/**
 * Holds a Worker at a share of one core by sleeping in its own thread. Atomics
 * waits on memory that no one else sees, because shared WebAssembly memory can
 * be made without cross-origin isolation and a SharedArrayBuffer cannot.
 */
export class Throttle {
  private owed = 0; // milliseconds; negative after a sleep that took too long
  private last = 0;
  private readonly now: () => number;
  private cell: Int32Array<ArrayBufferLike> | undefined;

  constructor(now: () => number) {
    this.now = now;
  }

  /** Starts counting after a time in which the Worker did nothing. */
  start(): void {
    const t = this.now();
    this.owed = Math.max(this.owed - (t - this.last), -quantum);
    this.last = t;
  }

  /** Counts the time since the last call and sleeps what a share of cpu percent owes for it. */
  pause(cpu: number): void {
    let t = this.now();
    this.owed += (t - this.last) * (100 / Math.min(Math.max(cpu, 1), 100) - 1);
    if (this.owed >= quantum) {
      this.cell ??= new Int32Array<ArrayBufferLike>(new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer);
      const before = t;
      Atomics.wait(this.cell, 0, 0, this.owed);
      t = this.now();
      this.owed = Math.max(this.owed - (t - before), -quantum * 4);
    }
    this.last = t;
  }
}
