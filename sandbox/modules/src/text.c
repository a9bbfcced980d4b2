// Word frequency of a chunk of text. A word is a maximal run of ASCII letters,
// digits and bytes from 0x80 up, with single apostrophes inside it. ASCII
// letters are lowered. Output: "word\tcount\n" per word, sorted by bytes.
#include "edgenet.h"

typedef struct {
  u64 prefix; // first eight bytes, big-endian: orders most pairs
  const u8 *word;
  u32 len, hash, count;
} entry;

static entry *table;
static u32 capacity, used;

static u32 is_letter(u32 c) {
  return c >= 0x80 || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static entry *slot(const u8 *word, u32 len, u32 hash) {
  for (u32 i = hash & (capacity - 1);; i = (i + 1) & (capacity - 1)) {
    entry *e = &table[i];
    if (e->count == 0) return e;
    if (e->hash != hash || e->len != len) continue;
    u32 k = 0;
    while (k < len && e->word[k] == word[k]) k++;
    if (k == len) return e;
  }
}

static void grow(void) {
  entry *old = table;
  u32 n = capacity;
  capacity = n ? n * 2 : 4096;
  table = alloc(capacity * sizeof(entry)); // fresh memory is zero
  for (u32 i = 0; i < n; i++)
    if (old[i].count) *slot(old[i].word, old[i].len, old[i].hash) = old[i];
}

static void count(const u8 *word, u32 len, u32 hash) {
  if (used * 2 >= capacity) grow();
  entry *e = slot(word, len, hash);
  if (e->count++) return;
  used++;
  e->word = word, e->len = len, e->hash = hash;
  for (u32 i = 0; i < 8; i++) e->prefix = e->prefix << 8 | (i < len ? word[i] : 0);
}

static int before(const entry *a, const entry *b) {
  if (a->prefix != b->prefix) return a->prefix < b->prefix;
  u32 n = a->len < b->len ? a->len : b->len;
  for (u32 i = 0; i < n; i++)
    if (a->word[i] != b->word[i]) return a->word[i] < b->word[i];
  return a->len < b->len;
}

// sort merges runs of doubling width between the two arrays.
static entry **sort(entry **a, entry **b, u32 n) {
  for (u32 w = 1; w < n; w *= 2) {
    for (u32 lo = 0; lo < n; lo += 2 * w) {
      u32 mid = lo + w < n ? lo + w : n, hi = lo + 2 * w < n ? lo + 2 * w : n;
      u32 i = lo, j = mid, k = lo;
      while (i < mid && j < hi) b[k++] = before(a[j], a[i]) ? a[j++] : a[i++];
      while (i < mid) b[k++] = a[i++];
      while (j < hi) b[k++] = a[j++];
    }
    entry **t = a;
    a = b, b = t;
  }
  return a;
}

EXPORT(execute) u64 execute(u8 *in, u32 len) {
  grow();
  for (u32 i = 0; i < len;) {
    if (!is_letter(in[i])) {
      i++;
      continue;
    }
    u32 start = i, hash = 2166136261u;
    for (; i < len; i++) {
      u32 c = in[i];
      if (c == '\'' ? i + 1 >= len || !is_letter(in[i + 1]) : !is_letter(c)) break;
      if (c >= 'A' && c <= 'Z') in[i] = c += 'a' - 'A';
      hash = (hash ^ c) * 16777619u;
    }
    count(in + start, i - start, hash ^ hash >> 15);
  }
  entry **a = alloc(used * sizeof(*a)), **b = alloc(used * sizeof(*b));
  u32 n = 0, size = 0;
  for (u32 i = 0; i < capacity; i++)
    if (table[i].count) a[n++] = &table[i], size += table[i].len + 12;
  a = sort(a, b, n);
  u8 *out = alloc(size), *p = out;
  for (u32 i = 0; i < n; i++) {
    for (u32 k = 0; k < a[i]->len; k++) *p++ = a[i]->word[k];
    *p++ = '\t';
    u8 digits[10];
    u32 d = 0, c = a[i]->count;
    do digits[d++] = '0' + c % 10;
    while (c /= 10);
    while (d) *p++ = digits[--d];
    *p++ = '\n';
  }
  return result(out, p - out);
}
