/**
 * xoshiro256** on pairs of 32-bit halves, low half first: about as fast as a
 * guest expects of bytes that it pays by length, which BigInt is not.
 */
export class Random {
  private readonly s = new Uint32Array(8);

  constructor(seed: Uint8Array) {
    const v = new DataView(seed.buffer, seed.byteOffset, 32);
    let any = 0;
    for (let i = 0; i < 8; i++) any |= this.s[i] = v.getUint32(4 * i, true);
    if (any === 0) this.s[0] = 1; // the generator's one forbidden state
  }

  /** Fills b, eight bytes per step; a rest takes the low bytes of one more. */
  fill(b: Uint8Array): void {
    const s = this.s;
    const v = new DataView(b.buffer, b.byteOffset, b.length);
    const last = new DataView(new ArrayBuffer(8));
    for (let at = 0; at < b.length; at += 8) {
      // r = rotl(s1 * 5, 7) * 9
      let lo = s[2]!;
      let hi = s[3]!;
      let sum = ((lo << 2) >>> 0) + lo;
      hi = (((hi << 2) | (lo >>> 30)) + hi + (sum > 0xffffffff ? 1 : 0)) >>> 0;
      lo = sum >>> 0;
      const rl = ((lo << 7) | (hi >>> 25)) >>> 0;
      const rh = ((hi << 7) | (lo >>> 25)) >>> 0;
      sum = ((rl << 3) >>> 0) + rl;
      hi = (((rh << 3) | (rl >>> 29)) + rh + (sum > 0xffffffff ? 1 : 0)) >>> 0;
      lo = sum >>> 0;

      // t = s1 << 17
      const th = (s[3]! << 17) | (s[2]! >>> 15);
      const tl = s[2]! << 17;
      s[4]! ^= s[0]!;
      s[5]! ^= s[1]!;
      s[6]! ^= s[2]!;
      s[7]! ^= s[3]!;
      s[2]! ^= s[4]!;
      s[3]! ^= s[5]!;
      s[0]! ^= s[6]!;
      s[1]! ^= s[7]!;
      s[4]! ^= tl;
      s[5]! ^= th;
      // s3 = rotl(s3, 45): swap the halves, then 13 more
      const l = s[7]!;
      const h = s[6]!;
      s[6] = (l << 13) | (h >>> 19);
      s[7] = (h << 13) | (l >>> 19);

      if (at + 8 <= b.length) {
        v.setUint32(at, lo, true);
        v.setUint32(at + 4, hi, true);
      } else {
        last.setUint32(0, lo, true);
        last.setUint32(4, hi, true);
        b.set(new Uint8Array(last.buffer, 0, b.length - at), at);
      }
    }
  }
}
