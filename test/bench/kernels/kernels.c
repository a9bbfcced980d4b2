// Kernels of the metering rows. The input is two u32: which kernel, and how
// much work; the output is a u32 that depends on all of it.
#include <wasm_simd128.h>

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

__attribute__((export_name("edgenet_alloc"))) void *edgenet_alloc(u32 n) {
	static u32 input[16];
	return n <= sizeof input ? input : 0;
}

// Each kernel is a function of its own, as in a real module.
#define KERNEL __attribute__((noinline))

static u8 text[1 << 16];
static float a[128 * 128], b[128 * 128], c[128 * 128];

static u32 next(u32 x) {
	x ^= x << 13;
	x ^= x >> 17;
	return x ^ x << 5;
}

// scan counts words and sums letters.
static KERNEL u32 scan(u32 rounds) {
	u32 x = 1, words = 0, sum = 0;
	for (u32 i = 0; i < sizeof text; i++) {
		x = next(x);
		text[i] = x % 6 ? 'a' + x % 23 : ' ';
	}
	while (rounds--) {
		int inside = 0;
		for (u32 i = 0; i < sizeof text; i++) {
			u8 ch = text[i];
			if (ch >= 'a' && ch <= 'z') {
				if (!inside) words++;
				inside = 1;
				sum += ch;
			} else {
				inside = 0;
			}
		}
	}
	return words * 31 + sum;
}

static void fill(void) {
	u32 x = 1;
	for (u32 i = 0; i < 128 * 128; i++) {
		x = next(x);
		a[i] = (float)(x & 1023) / 1024;
		b[i] = (float)(x >> 22) / 1024;
	}
}

static u32 bits(float f) {
	u32 v;
	__builtin_memcpy(&v, &f, 4);
	return v;
}

// dot multiplies vectors of 384 floats, four at a time.
static KERNEL u32 dot(u32 rounds) {
	u32 sum = 0;
	fill();
	while (rounds--) {
		for (u32 v = 0; v + 384 <= 128 * 128; v += 384) {
			v128_t s = wasm_f32x4_splat(0);
			for (u32 i = 0; i < 384; i += 4)
				s = wasm_f32x4_add(s, wasm_f32x4_mul(wasm_v128_load(a + i), wasm_v128_load(b + v + i)));
			sum += bits(wasm_f32x4_extract_lane(s, 0) + wasm_f32x4_extract_lane(s, 1) +
				wasm_f32x4_extract_lane(s, 2) + wasm_f32x4_extract_lane(s, 3));
		}
	}
	return sum;
}

static KERNEL u32 matmul(u32 rounds) {
	fill();
	while (rounds--) {
		for (u32 i = 0; i < 128; i++)
			for (u32 j = 0; j < 128; j++) {
				float s = 0;
				for (u32 k = 0; k < 128; k++)
					s += a[i * 128 + k] * b[k * 128 + j];
				c[i * 128 + j] = s;
			}
		a[rounds % (128 * 128)] = c[77];
	}
	u32 sum = 0;
	for (u32 i = 0; i < 128 * 128; i++) sum += bits(c[i]);
	return sum;
}

// mix is rounds like those of SHA-256.
static KERNEL u32 mix(u32 rounds) {
	u32 s[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	while (rounds--) {
		for (u32 i = 0; i < 64; i++) {
			u32 e = s[4], big = (e >> 6 | e << 26) ^ (e >> 11 | e << 21) ^ (e >> 25 | e << 7);
			u32 t = s[7] + big + ((e & s[5]) ^ (~e & s[6])) + i * 0x9e3779b9;
			u32 d = s[0], small = (d >> 2 | d << 30) ^ (d >> 13 | d << 19) ^ (d >> 22 | d << 10);
			u32 m = small + ((d & s[1]) ^ (d & s[2]) ^ (s[1] & s[2]));
			s[7] = s[6], s[6] = s[5], s[5] = e, s[4] = s[3] + t;
			s[3] = s[2], s[2] = s[1], s[1] = d, s[0] = t + m;
		}
	}
	return s[0] ^ s[4];
}

static KERNEL u32 fib(u32 n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

__attribute__((export_name("execute"))) u64 execute(const u32 *in, u32 size) {
	static u32 out;
	if (size != 8) __builtin_trap();
	switch (in[0]) {
	case 0: out = scan(in[1]); break;
	case 1: out = dot(in[1]); break;
	case 2: out = matmul(in[1]); break;
	case 3: out = mix(in[1]); break;
	case 4: out = fib(in[1]); break;
	default: __builtin_trap();
	}
	return (u64)(u32)&out << 32 | sizeof out;
}
