// Answers the distinct words of the input, sorted, one a line.

export function edgenet_alloc(size: i32): usize {
  return heap.alloc(size);
}

export function execute(ptr: usize, len: i32): u64 {
  const words = String.UTF8.decodeUnsafe(ptr, len).replaceAll("\n", " ").split(" ");
  const seen = new Set<string>();
  for (let i = 0; i < words.length; i++) {
    const word = words[i].trim();
    if (word.length > 0) seen.add(word);
  }
  const sorted = seen.values().sort();
  const out = String.UTF8.encode(sorted.join("\n"));
  // The buffer must outlive this call; with the stub runtime everything does.
  return ((changetype<usize>(out) as u64) << 32) | (out.byteLength as u64);
}
