// Word frequency of a chunk of text in UTF-8. A word is a segment of Unicode's
// default word boundaries (UAX #29, WB1 to WB999) that has an alphabetic
// character or a number in it, in Unicode's default lower case. Output:
// "word\tcount\n" per word, sorted by bytes. A byte that is not UTF-8 counts as
// U+FFFD.
#include "edgenet.h"
#include "tables.h"

typedef struct {
  u64 head; // first eight bytes as loaded, zero behind the word's end
  const u8 *word;
  u32 len, hash, count;
} entry;

static entry *table;
static u32 capacity, used;

// Where the word in hand is written in lower case; a word that is counted for
// the first time stays there.
static u8 *spot, *spot_end;
enum { CHUNK = 1 << 16, SLACK = 16 };

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

// count counts the word of len bytes at spot.
static void count(u32 len, u32 hash) {
  u64 head = len < 8 ? load(spot) & ((1ull << len * 8) - 1) : load(spot);
  hash ^= hash >> 15;
  entry *e = slot(spot, len, hash, head);
  if (e->count++) return;
  e->word = spot, e->len = len, e->hash = hash, e->head = head;
  spot += len;
  if (++used * 2 >= capacity) grow();
}

// room makes sure that a word of n bytes fits at spot, and eight bytes can be
// read wherever it ends.
static void room(u32 n) {
  if ((u32)(spot_end - spot) >= n + SLACK) return;
  u32 size = n + SLACK > CHUNK ? n + SLACK : CHUNK;
  spot = alloc(size);
  spot_end = spot + size;
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

// The text, and one of its characters: code point, bytes, properties.
static const u8 *text;
static u32 text_len;

typedef struct {
  u32 c, n, kind;
} rune;

static u32 kind_of(u32 c) {
  u32 block = second_stage[first_stage[c >> 12] * 64 + (c >> 6 & 63)];
  return kinds[third_stage[block * 64 + (c & 63)]];
}

// decode reads the character at i, which is inside the text.
static rune decode(u32 i) {
  u32 c = text[i], left = text_len - i;
  if (c < 0x80) return (rune){c, 1, kind_of(c)};
  static const u32 least[] = {0, 0, 0x80, 0x800, 0x10000};
  u32 n = c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
  if (n && n <= left) {
    u32 v = c & (0xff >> (n + 1)), k = 1;
    for (; k < n && (text[i + k] & 0xc0) == 0x80; k++) v = v << 6 | (text[i + k] & 0x3f);
    if (k == n && v >= least[n] && v < 0x110000 && (v < 0xd800 || v > 0xdfff)) return (rune){v, n, kind_of(v)};
  }
  return (rune){0xfffd, 1, kind_of(0xfffd)};
}

static u8 *encode(u8 *p, u32 c) {
  if (c < 0x80) {
    *p++ = c;
  } else if (c < 0x800) {
    *p++ = 0xc0 | c >> 6, *p++ = 0x80 | (c & 0x3f);
  } else if (c < 0x10000) {
    *p++ = 0xe0 | c >> 12, *p++ = 0x80 | (c >> 6 & 0x3f), *p++ = 0x80 | (c & 0x3f);
  } else {
    *p++ = 0xf0 | c >> 18, *p++ = 0x80 | (c >> 12 & 0x3f), *p++ = 0x80 | (c >> 6 & 0x3f), *p++ = 0x80 | (c & 0x3f);
  }
  return p;
}

#define SET(c) (1u << (c))
enum {
  IGNORE = SET(Extend) | SET(Format) | SET(ZWJ),
  AHLETTER = SET(ALetter) | SET(Hebrew_Letter),
  MIDNUMLETQ = SET(MidNumLet) | SET(Single_Quote),
  BREAKS = SET(CR) | SET(LF) | SET(Newline),
  WORDY = AHLETTER | SET(Numeric) | SET(Katakana) | SET(ExtendNumLet),
};

// follows reports whether the next character at or behind i that is not ignored
// (WB4) is of one of the classes.
static int follows(u32 i, u32 classes) {
  while (i < text_len) {
    rune r = decode(i);
    u32 s = SET(r.kind & CLASS);
    if (!(s & IGNORE)) return (s & classes) != 0;
    i += r.n;
  }
  return 0;
}

// joined reports whether there is no boundary between a character of class p and
// one of class n that ends at next; pp is the class before p in the segment.
// Ignored characters are skipped already.
static int joined(u32 pp, u32 p, u32 n, u32 next) {
  if ((p & (AHLETTER | SET(Numeric))) && (n & (AHLETTER | SET(Numeric)))) return 1;          // WB5, 8, 9, 10
  if ((p & AHLETTER) && (n & (SET(MidLetter) | MIDNUMLETQ)) && follows(next, AHLETTER)) return 1; // WB6
  if ((pp & AHLETTER) && (p & (SET(MidLetter) | MIDNUMLETQ)) && (n & AHLETTER)) return 1;    // WB7
  if ((p & SET(Hebrew_Letter)) && (n & SET(Single_Quote))) return 1;                         // WB7a
  if ((p & SET(Hebrew_Letter)) && (n & SET(Double_Quote)) && follows(next, SET(Hebrew_Letter))) return 1; // WB7b
  if ((pp & SET(Hebrew_Letter)) && (p & SET(Double_Quote)) && (n & SET(Hebrew_Letter))) return 1;         // WB7c
  if ((pp & SET(Numeric)) && (p & (SET(MidNum) | MIDNUMLETQ)) && (n & SET(Numeric))) return 1;            // WB11
  if ((p & SET(Numeric)) && (n & (SET(MidNum) | MIDNUMLETQ)) && follows(next, SET(Numeric))) return 1;    // WB12
  if ((p & SET(Katakana)) && (n & SET(Katakana))) return 1;                                  // WB13
  if ((p & WORDY) && (n & SET(ExtendNumLet))) return 1;                                      // WB13a
  if ((p & SET(ExtendNumLet)) && (n & WORDY)) return 1;                                      // WB13b
  return 0;
}

// segment finds where the segment that starts at i ends. word is set when it has
// a letter or a number in it.
static u32 segment(u32 i, int *word) {
  rune r = decode(i);
  u32 p = SET(r.kind & CLASS), pp = 0, raw = p, flags = p == SET(Regional_Indicator);
  *word = (r.kind & ALNUM) != 0;
  i += r.n;
  if (p & BREAKS) return i;
  while (i < text_len) {
    r = decode(i);
    u32 n = SET(r.kind & CLASS);
    if (n & BREAKS) break;                                                     // WB3b
    if (raw == SET(ZWJ) && (r.kind & EXTPICT)) {                               // WB3c
      pp = p, p = n;
    } else if (raw == SET(WSegSpace) && n == SET(WSegSpace)) {                 // WB3d
    } else if (n & IGNORE) {                                                   // WB4
    } else if (p == SET(Regional_Indicator) && n == p && flags == 1) {         // WB15, 16
      flags = 2;
    } else if (joined(pp, p, n, i + r.n)) {
      pp = p, p = n;
    } else {
      break;
    }
    raw = n;
    if (r.kind & ALNUM) *word = 1;
    i += r.n;
  }
  return i;
}

// final reports whether no cased letter follows at or behind i in the word that
// ends at end, whatever ignorable stands between.
static int final(u32 i, u32 end) {
  while (i < end) {
    rune r = decode(i);
    if (!(r.kind & IGNORABLE)) return !(r.kind & CASED);
    i += r.n;
  }
  return 1;
}

static u32 lower_of(u32 c) {
  u32 lo = 0, hi = sizeof lowered / sizeof *lowered;
  while (lo + 1 < hi) {
    u32 mid = (lo + hi) / 2;
    if (lowered[mid].lo <= c) lo = mid;
    else hi = mid;
  }
  if (c > lowered[lo].hi || (c - lowered[lo].lo) % lowered[lo].stride) return c;
  return c + lowered[lo].delta;
}

// take counts the word between two places of the text.
static void take(u32 start, u32 end) {
  room((end - start) * 3); // a byte that is no UTF-8 becomes three
  u8 *p = spot;
  int cased = 0; // the last character that is not ignorable
  for (u32 i = start; i < end;) {
    rune r = decode(i);
    if (r.c == 0x130) { // the one letter whose lower case is two characters
      p = encode(encode(p, 'i'), 0x307);
    } else if (r.c == 0x3a3) { // capital sigma has another form at a word's end
      p = encode(p, cased && final(i + r.n, end) ? 0x3c2 : 0x3c3);
    } else {
      p = encode(p, r.kind & LOWER ? lower_of(r.c) : r.c);
    }
    if (!(r.kind & IGNORABLE)) cased = (r.kind & CASED) != 0;
    i += r.n;
  }
  u32 hash = 2166136261u;
  for (u8 *q = spot; q < p; q++) hash = (hash ^ *q) * 16777619u;
  count(p - spot, hash);
}

// ASCII letters in lower case and digits; 0 for the rest.
static u8 plain[256];

EXPORT(execute) u64 execute(u8 *in, u32 len) {
  text = in, text_len = len;
  for (u32 c = '0'; c <= '9'; c++) plain[c] = c;
  for (u32 c = 'a'; c <= 'z'; c++) plain[c] = plain[c - 32] = c;
  grow();
  for (u32 i = 0; i < len;) {
    // Most words are ASCII letters and digits between spaces, line ends and
    // commas: nothing of Unicode's can join over those.
    u32 c = plain[in[i]], start = i;
    if (c) {
      u32 hash = 2166136261u;
      u32 most = len - i < 64 ? len - i : 64, n = 0;
      room(64);
      do {
        spot[n++] = c;
        hash = (hash ^ c) * 16777619u;
        c = n < most ? plain[in[i + n]] : 0;
      } while (c);
      u32 next = i + n < len ? in[i + n] : ' ', then = i + n + 1 < len ? in[i + n + 1] : ' ';
      // Between a word and a space there is always a boundary, and so there is
      // before other ASCII that a space follows, but for _.
      if (n < 64 && (next == ' ' || next == '\n' || (next < 0x80 && next != '_' && (then == ' ' || then == '\n')))) {
        count(n, hash);
        i += n;
        continue;
      }
    } else if (in[i] == ' ' || in[i] == '\n') {
      // A space takes marks with it, and only those.
      if (i + 1 < len && in[i + 1] < 0x80) {
        i++;
        continue;
      }
    }
    int word;
    i = segment(start, &word);
    if (word) take(start, i);
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
