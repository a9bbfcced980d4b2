/** Keeps what was used last, up to a number of items and of bytes, but always the last one. */
export class Kept<T> {
  private readonly items = new Map<string, { item: T; bytes: number }>(); // least recently used first
  private bytes = 0;

  constructor(
    private readonly most: number,
    private readonly mostBytes: number,
  ) {}

  get(key: string): T | undefined {
    const found = this.items.get(key);
    if (!found) return undefined;
    this.items.delete(key);
    this.items.set(key, found);
    return found.item;
  }

  /** Adds what is not there yet. */
  add(key: string, item: T, bytes: number): void {
    this.items.set(key, { item, bytes });
    this.bytes += bytes;
    for (const [oldest, { bytes }] of this.items) {
      if (this.items.size === 1 || (this.items.size <= this.most && this.bytes <= this.mostBytes)) break;
      this.items.delete(oldest);
      this.bytes -= bytes;
    }
  }
}
