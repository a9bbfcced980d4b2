/** A pause shorter than this is owed: timers are no finer, and neither is sleep. */
const quantum = 4;

/**
 * Sleeps in the Worker's own thread: on memory that no one else sees, because
 * shared WebAssembly memory can be made without cross-origin isolation and a
 * SharedArrayBuffer cannot.
 */
function sleepInPlace(ms: number): void {
  cell ??= new Int32Array<ArrayBufferLike>(new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer);
  Atomics.wait(cell, 0, 0, ms);
}

let cell: Int32Array<ArrayBufferLike> | undefined;

/** Holds a Worker at a share of one core by sleeping between slices. */
export class Throttle {
  private owed = 0; // milliseconds; negative after a sleep that took too long
  private last = 0;
  private slept = 0;

  constructor(
    private readonly now: () => number,
    private readonly sleep = sleepInPlace,
  ) {}

  /** Starts counting after a time in which the Worker did nothing. */
  start(): void {
    const t = this.now();
    this.owed = Math.max(this.owed - (t - this.last), -quantum);
    this.last = t;
  }

  /** The time, were it not for what was slept: a clock of work. */
  worked(): number {
    return this.now() - this.slept;
  }

  /** Counts the time since the last call and sleeps what a share of cpu percent owes for it. */
  pause(cpu: number): void {
    let t = this.now();
    this.owed += (t - this.last) * (100 / Math.min(Math.max(cpu, 1), 100) - 1);
    if (this.owed >= quantum) {
      const before = t;
      this.sleep(this.owed);
      t = this.now();
      this.slept += t - before;
      this.owed = Math.max(this.owed - (t - before), -quantum * 4);
    }
    this.last = t;
  }
}
