// The guest side of the reactor ABI, for modules without a C library.
#ifndef EDGENET_H
#define EDGENET_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define EXPORT(name) __attribute__((export_name(#name)))
#define IMPORT(module, name) __attribute__((import_module(#module), import_name(#name)))

// Progress of the task in thousandths.
IMPORT(edgenet, progress) void edgenet_progress(u32 permille);

extern u8 __heap_base;
static u32 heap_top;

// alloc takes n bytes, aligned to 16, from the end of memory. Nothing is ever
// freed: an instance runs one task.
static void *alloc(u32 n) {
  if (heap_top == 0) heap_top = ((u32)&__heap_base + 15) & ~15u;
  u64 end = (u64)heap_top + (((u64)n + 15) & ~15ull);
  u64 have = (u64)__builtin_wasm_memory_size(0) << 16;
  if (end > have) {
    u64 pages = (end - have + 65535) >> 16;
    if (end >> 32 || __builtin_wasm_memory_grow(0, (u32)pages) == (unsigned long)-1) __builtin_trap();
  }
  u8 *p = (u8 *)heap_top;
  heap_top = (u32)end;
  return p;
}

EXPORT(edgenet_alloc) void *edgenet_alloc(u32 n) { return alloc(n); }

// result packs the output range that execute returns.
static u64 result(const void *p, u32 n) { return (u64)(u32)p << 32 | n; }

#endif
