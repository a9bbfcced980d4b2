// Exact search and scoring of float vectors.
//
// Input, little-endian: u32 magic, op, metric, dim, queries, vectors, k; then
// f32 queries[queries][dim], f32 vectors[vectors][dim].
// Output: u32 op, rows, columns; then rows × columns items.
// op 1, search: per query min(k, vectors) pairs of u32 index, f32 score, best
// first; equal scores by index.
// op 2, score: f32 per query and vector.
// op 3, normalise: the vectors with length 1, dim columns (zero stays zero).
// metric 0 dot (larger is better), 1 cosine (larger), 2 euclidean (smaller).
//
// Sums are f64: no square of an f32 leaves its range, at either end. Only a
// result that does not fit f32, or is no number because an input was none, ends
// the task with exit code 1 and says in the log where that was.
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

IMPORT(wasi_snapshot_preview1, fd_write) u32 fd_write(u32 fd, const void *buffers, u32 n, u32 *written);
IMPORT(wasi_snapshot_preview1, proc_exit) __attribute__((noreturn)) void proc_exit(u32 code);

enum { ALL = 0xffffffff };

static u8 *append(u8 *p, const char *text) {
  while (*text) *p++ = *text++;
  return p;
}

static u8 *append_number(u8 *p, u32 v) {
  u8 digits[10];
  u32 d = 0;
  do digits[d++] = '0' + v % 10;
  while (v /= 10);
  while (d) *p++ = digits[--d];
  return p;
}

// misfit ends the task: what was to be computed from a query and a vector does
// not fit.
static __attribute__((noreturn, noinline)) void misfit(const char *what, u32 q, u32 v) {
  static u8 line[128];
  u8 *p = append(line, what);
  p = append(p, ": ");
  if (q != ALL) p = append(append_number(append(p, "queries["), q), "], ");
  p = append_number(append(p, "vectors["), v);
  p = append(p, "]: the result does not fit a 32-bit float\n");
  struct {
    const void *at;
    u32 n;
  } buffer = {line, p - line};
  u32 n;
  fd_write(2, &buffer, 1, &n);
  proc_exit(1);
}

static int fits(double d) { return __builtin_fabs(d) < 0x1.ffffffp127; } // rounds to a finite f32; false for NaN

static double sum(v128_t v) { return wasm_f64x2_extract_lane(v, 0) + wasm_f64x2_extract_lane(v, 1); }

static v128_t wide(const float *p) { return wasm_f64x2_promote_low_f32x4(wasm_v128_load64_zero(p)); }

// Four accumulators hide the latency of an addition.
static double dot(const float *a, const float *b, u32 n) {
  v128_t s0 = wasm_f64x2_splat(0), s1 = s0, s2 = s0, s3 = s0;
  u32 i = 0;
  for (; i + 8 <= n; i += 8) {
    s0 = wasm_f64x2_add(s0, wasm_f64x2_mul(wide(a + i), wide(b + i)));
    s1 = wasm_f64x2_add(s1, wasm_f64x2_mul(wide(a + i + 2), wide(b + i + 2)));
    s2 = wasm_f64x2_add(s2, wasm_f64x2_mul(wide(a + i + 4), wide(b + i + 4)));
    s3 = wasm_f64x2_add(s3, wasm_f64x2_mul(wide(a + i + 6), wide(b + i + 6)));
  }
  double s = sum(wasm_f64x2_add(wasm_f64x2_add(s0, s1), wasm_f64x2_add(s2, s3)));
  for (; i < n; i++) s += (double)a[i] * b[i];
  return s;
}

static double distance(const float *a, const float *b, u32 n) {
  v128_t s0 = wasm_f64x2_splat(0), s1 = s0, s2 = s0, s3 = s0;
  u32 i = 0;
  for (; i + 8 <= n; i += 8) {
    v128_t d0 = wasm_f64x2_sub(wide(a + i), wide(b + i));
    v128_t d1 = wasm_f64x2_sub(wide(a + i + 2), wide(b + i + 2));
    v128_t d2 = wasm_f64x2_sub(wide(a + i + 4), wide(b + i + 4));
    v128_t d3 = wasm_f64x2_sub(wide(a + i + 6), wide(b + i + 6));
    s0 = wasm_f64x2_add(s0, wasm_f64x2_mul(d0, d0));
    s1 = wasm_f64x2_add(s1, wasm_f64x2_mul(d1, d1));
    s2 = wasm_f64x2_add(s2, wasm_f64x2_mul(d2, d2));
    s3 = wasm_f64x2_add(s3, wasm_f64x2_mul(d3, d3));
  }
  double s = sum(wasm_f64x2_add(wasm_f64x2_add(s0, s1), wasm_f64x2_add(s2, s3)));
  for (; i < n; i++) {
    double d = (double)a[i] - b[i];
    s += d * d;
  }
  return __builtin_sqrt(s);
}

static const char *const metric_names[] = {"dot", "cosine", "euclidean"};

// score compares query q with vector v, whose numbers are given too.
static float score(const header *h, u32 qi, const float *q, double qnorm, u32 vi, const float *v) {
  double s;
  if (h->metric == EUCLIDEAN) {
    s = distance(q, v, h->dim);
  } else {
    s = dot(q, v, h->dim);
    if (h->metric == COSINE) {
      double n = qnorm * __builtin_sqrt(dot(v, v, h->dim));
      s = n == 0 ? 0 : s / n;
    }
  }
  if (!fits(s)) misfit(metric_names[h->metric], qi, vi);
  return s;
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
  if (a.score != b.score) return smaller_wins ? a.score < b.score : a.score > b.score;
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

static void search(const header *h, u32 qi, const float *q, const float *vs, hit *top, u32 k) {
  double qnorm = __builtin_sqrt(dot(q, q, h->dim));
  for (u32 i = 0; i < h->vectors; i++) {
    hit x = {i, score(h, qi, q, qnorm, i, vs + (u64)i * h->dim)};
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
        search(h, q, qs + (u64)q * h->dim, vs, hits + (u64)q * k, k);
        edgenet_progress((q + 1) * 1000ull / h->queries);
      }
    return result(out, size);
  }
  if (h->op == SCORE) {
    u32 *out = output(SCORE, h->queries, h->vectors, 4, &size);
    float *s = (float *)(out + 3);
    for (u32 q = 0; q < h->queries; q++) {
      const float *a = qs + (u64)q * h->dim;
      double qnorm = __builtin_sqrt(dot(a, a, h->dim));
      for (u32 i = 0; i < h->vectors; i++) *s++ = score(h, q, a, qnorm, i, vs + (u64)i * h->dim);
    }
    return result(out, size);
  }
  if (h->op != NORMALISE) __builtin_trap();
  u32 *out = output(NORMALISE, h->vectors, h->dim, 4, &size);
  float *s = (float *)(out + 3);
  for (u32 i = 0; i < h->vectors; i++) {
    const float *v = vs + (u64)i * h->dim;
    double n = __builtin_sqrt(dot(v, v, h->dim));
    if (!(n < 0x1p1000)) misfit("normalise", ALL, i); // an input is no number
    for (u32 j = 0; j < h->dim; j++) *s++ = n == 0 ? 0 : v[j] / n;
  }
  return result(out, size);
}
