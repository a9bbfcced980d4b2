// primes counts the primes below the decimal number in its input.
#include "edgenet.h"

EXPORT(execute) u64 execute(const u8 *in, u32 len) {
  u32 n = 0;
  for (u32 i = 0; i < len && in[i] >= '0' && in[i] <= '9'; i++) n = n * 10 + (in[i] - '0');
  u8 *composite = alloc(n + 1); // fresh memory is zero
  u32 count = 0;
  for (u32 p = 2; p < n; p++) {
    if (p % 65536 == 0) edgenet_progress((u64)p * 1000 / n);
    if (composite[p]) continue;
    count++;
    for (u64 m = (u64)p * p; m < n; m += p) composite[m] = 1;
  }
  u8 *end = (u8 *)alloc(16) + 16, *p = end;
  do *--p = '0' + count % 10;
  while (count /= 10);
  return result(p, end - p);
}
