// Word frequency of a chunk of text. A word is a maximal run of ASCII letters,
// digits and bytes from 0x80 up, with single apostrophes inside it. ASCII
// letters are lowered. Output: "word\tcount\n" per word, sorted by bytes.
#include "edgenet.h"

typedef struct {
  u64 head; // first eight bytes as loaded, zero behind the word's end
  const u8 *word;
  u32 len, hash, count;
} entry;

static entry *table;
static u32 capacity, used;
static u8 lower[256]; // the lowered byte of a word, 0 for what is not in words

static void init(void) {
  for (u32 c = 0x80; c < 256; c++) lower[c] = c;
  for (u32 c = '0'; c <= '9'; c++) lower[c] = c;
  for (u32 c = 'a'; c <= 'z'; c++) lower[c] = lower[c - 32] = c;
}

static u64 load(const u8 *p) {
  u64 v;
  __builtin_memcpy(&v, p, 8);
  return v;
}

static u64 reversed(u64 v) {
  v = (v & 0x00ff00ff00ff00ff) << 8 | (v >> 8 & 0x00ff00ff00ff00ff);
  v = (v & 0x0000ffff0000ffff) << 16 | (v >> 16 & 0x0000ffff0000ffff);
  return v << 32 | v >> 32;
}

static int same(const u8 *a, const u8 *b, u32 len) {
  for (u32 i = 8; i + 8 < len; i += 8)
    if (load(a + i) != load(b + i)) return 0;
  return len <= 8 || load(a + len - 8) == load(b + len - 8);
}

static entry *slot(const u8 *word, u32 len, u32 hash, u64 head) {
  for (u32 i = hash & (capacity - 1);; i = (i + 1) & (capacity - 1)) {
    entry *e = &table[i];
    if (e->count == 0 || (e->head == head && e->hash == hash && e->len == len && same(e->word, word, len))) return e;
  }
}

static void grow(void) {
  entry *old = table;
  u32 n = capacity;
  capacity = n ? n * 2 : 1024;
  table = alloc(capacity * sizeof(entry)); // fresh memory is zero
  for (u32 i = 0; i < n; i++)
    if (old[i].count) *slot(old[i].word, old[i].len, old[i].hash, old[i].head) = old[i];
}

static void count(const u8 *word, u32 len, u32 hash) {
  // The table stands behind the input, so eight bytes can always be read.
  u64 head = len < 8 ? load(word) & ((1ull << len * 8) - 1) : load(word);
  entry *e = slot(word, len, hash, head);
  if (e->count++) return;
  e->word = word, e->len = len, e->hash = hash, e->head = head;
  if (++used * 2 >= capacity) grow();
}

static int before(const entry *a, const entry *b) {
  if (a->head != b->head) return reversed(a->head) < reversed(b->head);
  u32 n = a->len < b->len ? a->len : b->len;
  for (u32 i = 8; i < n; i++)
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
  init();
  grow();
  for (u32 i = 0; i < len;) {
    u32 c = lower[in[i]];
    if (!c) {
      i++;
      continue;
    }
    u32 start = i, hash = 2166136261u;
    do {
      in[i++] = c;
      hash = (hash ^ c) * 16777619u;
      if (i >= len) break;
      c = in[i] == '\'' && i + 1 < len && lower[in[i + 1]] ? '\'' : lower[in[i]];
    } while (c);
    count(in + start, i - start, hash ^ hash >> 15);
  }
  entry **a = alloc(used * sizeof(*a)), **b = alloc(used * sizeof(*b));
  u32 n = 0, size = 0;
  for (u32 i = 0; i < capacity; i++)
    if (table[i].count) a[n++] = &table[i], size += table[i].len + 12;
  a = sort(a, b, n);
  u8 *out = alloc(size), *p = out;
  for (u32 i = 0; i < n; i++) {
    __builtin_memcpy(p, a[i]->word, a[i]->len);
    p += a[i]->len;
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
