/** Bytes that grow at the end. */
export class Sink {
  private buf = new Uint8Array(0);
  length = 0;

  append(b: Uint8Array): void {
    const end = this.length + b.length;
    if (end > this.buf.length) {
      const grown = new Uint8Array(Math.max(end, 2 * this.length, 256));
      grown.set(this.buf.subarray(0, this.length));
      this.buf = grown;
    }
    this.buf.set(b, this.length);
    this.length = end;
  }

  /** A copy that may be transferred. */
  bytes(): Uint8Array {
    return this.buf.slice(0, this.length);
  }
}
