// Exact search and scoring of float vectors.
//
// Input, little-endian: u32 magic, op, metric, dim, queries, vectors, k; then
// f32 queries[queries][dim], f32 vectors[vectors][dim].
// Output: u32 op, rows, columns; then rows × columns items.
// op 1, search: per query min(k, vectors) pairs of u32 index, f32 score, best
// first; equal scores by index, NaN last.
// op 2, score: f32 per query and vector.
// op 3, normalise: the vectors with length 1, dim columns (zero stays zero).
// metric 0 dot (larger is better), 1 cosine (larger), 2 euclidean (smaller).
#include "edgenet.h"
#include <wasm_simd128.h>

enum { MAGIC = 0x31564e45, SEARCH = 1, SCORE = 2, NORMALISE = 3, DOT = 0, COSINE = 1, EUCLIDEAN = 2 };

typedef struct {
  u32 magic, op, metric, dim, queries, vectors, k;
} header;

typedef struct {
  u32 index;
  float score;
} hit;

static float sum(v128_t v) {
  return (wasm_f32x4_extract_lane(v, 0) + wasm_f32x4_extract_lane(v, 1)) +
         (wasm_f32x4_extract_lane(v, 2) + wasm_f32x4_extract_lane(v, 3));
}

// Four accumulators hide the latency of an addition.
static float dot(const float *a, const float *b, u32 n) {
  v128_t s0 = wasm_f32x4_splat(0), s1 = s0, s2 = s0, s3 = s0;
  u32 i = 0;
  for (; i + 16 <= n; i += 16) {
    s0 = wasm_f32x4_add(s0, wasm_f32x4_mul(wasm_v128_load(a + i), wasm_v128_load(b + i)));
    s1 = wasm_f32x4_add(s1, wasm_f32x4_mul(wasm_v128_load(a + i + 4), wasm_v128_load(b + i + 4)));
    s2 = wasm_f32x4_add(s2, wasm_f32x4_mul(wasm_v128_load(a + i + 8), wasm_v128_load(b + i + 8)));
    s3 = wasm_f32x4_add(s3, wasm_f32x4_mul(wasm_v128_load(a + i + 12), wasm_v128_load(b + i + 12)));
  }
  float s = sum(wasm_f32x4_add(wasm_f32x4_add(s0, s1), wasm_f32x4_add(s2, s3)));
  for (; i < n; i++) s += a[i] * b[i];
  return s;
}

static float distance(const float *a, const float *b, u32 n) {
  v128_t s0 = wasm_f32x4_splat(0), s1 = s0;
  u32 i = 0;
  for (; i + 8 <= n; i += 8) {
    v128_t d0 = wasm_f32x4_sub(wasm_v128_load(a + i), wasm_v128_load(b + i));
    v128_t d1 = wasm_f32x4_sub(wasm_v128_load(a + i + 4), wasm_v128_load(b + i + 4));
    s0 = wasm_f32x4_add(s0, wasm_f32x4_mul(d0, d0));
    s1 = wasm_f32x4_add(s1, wasm_f32x4_mul(d1, d1));
  }
  float s = sum(wasm_f32x4_add(s0, s1));
  for (; i < n; i++) s += (a[i] - b[i]) * (a[i] - b[i]);
  return __builtin_sqrtf(s);
}

static float score(const header *h, const float *q, float qnorm, const float *v) {
  if (h->metric == EUCLIDEAN) return distance(q, v, h->dim);
  float s = dot(q, v, h->dim);
  if (h->metric == DOT) return s;
  float n = qnorm * __builtin_sqrtf(dot(v, v, h->dim));
  return n == 0 ? 0 : s / n;
}

// output allocates the header and rows × columns items of the given size.
static void *output(u32 op, u32 rows, u32 columns, u32 item, u32 *size) {
  u64 n = 12 + (u64)rows * columns * item;
  if (n >> 31) __builtin_trap();
  u32 *p = alloc(n);
  p[0] = op, p[1] = rows, p[2] = columns;
  *size = n;
  return p;
}

static int smaller_wins;

static int better(hit a, hit b) {
  int an = a.score != a.score, bn = b.score != b.score;
  if (an != bn) return bn;
  if (!an && a.score != b.score) return smaller_wins ? a.score < b.score : a.score > b.score;
  return a.index < b.index;
}

// sift restores a heap whose root is the worst hit.
static void sift(hit *h, u32 i, u32 n) {
  for (;;) {
    u32 c = 2 * i + 1;
    if (c >= n) return;
    if (c + 1 < n && better(h[c], h[c + 1])) c++;
    if (!better(h[i], h[c])) return;
    hit t = h[i];
    h[i] = h[c], h[c] = t;
    i = c;
  }
}

static void search(const header *h, const float *q, const float *vs, hit *top, u32 k) {
  float qnorm = __builtin_sqrtf(dot(q, q, h->dim));
  for (u32 i = 0; i < h->vectors; i++) {
    hit x = {i, score(h, q, qnorm, vs + (u64)i * h->dim)};
    if (i < k) {
      top[i] = x;
      if (i + 1 == k)
        for (u32 j = k / 2 + 1; j-- > 0;) sift(top, j, k);
    } else if (better(x, top[0])) {
      top[0] = x;
      sift(top, 0, k);
    }
  }
  for (u32 n = k; n > 1; n--) {
    hit t = top[0];
    top[0] = top[n - 1], top[n - 1] = t;
    sift(top, 0, n - 1);
  }
}

EXPORT(execute) u64 execute(const u8 *in, u32 len) {
  const header *h = (const header *)in;
  if (len < sizeof *h || h->magic != MAGIC || h->metric > EUCLIDEAN || h->dim == 0 || h->dim > 65536 ||
      h->queries > 65536 || h->vectors > 16777216)
    __builtin_trap();
  if (sizeof *h + 4ull * h->dim * ((u64)h->queries + h->vectors) != len) __builtin_trap();
  smaller_wins = h->metric == EUCLIDEAN;
  const float *qs = (const float *)(h + 1), *vs = qs + (u64)h->queries * h->dim;
  u32 size;
  if (h->op == SEARCH) {
    u32 k = h->k < h->vectors ? h->k : h->vectors;
    u32 *out = output(SEARCH, h->queries, k, sizeof(hit), &size);
    hit *hits = (hit *)(out + 3);
    if (k)
      for (u32 q = 0; q < h->queries; q++) {
        search(h, qs + (u64)q * h->dim, vs, hits + (u64)q * k, k);
        edgenet_progress((q + 1) * 1000ull / h->queries);
      }
    return result(out, size);
  }
  if (h->op == SCORE) {
    u32 *out = output(SCORE, h->queries, h->vectors, 4, &size);
    float *s = (float *)(out + 3);
    for (u32 q = 0; q < h->queries; q++) {
      const float *a = qs + (u64)q * h->dim;
      float qnorm = __builtin_sqrtf(dot(a, a, h->dim));
      for (u32 i = 0; i < h->vectors; i++) *s++ = score(h, a, qnorm, vs + (u64)i * h->dim);
    }
    return result(out, size);
  }
  if (h->op != NORMALISE) __builtin_trap();
  u32 *out = output(NORMALISE, h->vectors, h->dim, 4, &size);
  float *s = (float *)(out + 3);
  for (u32 i = 0; i < h->vectors; i++) {
    const float *v = vs + (u64)i * h->dim;
    float n = __builtin_sqrtf(dot(v, v, h->dim));
    for (u32 j = 0; j < h->dim; j++) *s++ = n == 0 ? 0 : v[j] / n;
  }
  return result(out, size);
}
