// Products of 16 by 16 and 16 by 8 elements by a warp (PTX ISA, "mma.m16n8k16"), and elements for them.
template <typename T>
inline void multiply(float* sums, const unsigned int* a, const unsigned int* b);

template <>
inline void multiply<bfloat16>(float* sums, const unsigned int* a, const unsigned int* b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <>
inline void multiply<float16>(float* sums, const unsigned int* a, const unsigned int* b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Two ones.
template <typename T>
inline unsigned int ones();
template <>
inline unsigned int ones<bfloat16>() {
  return 0x3f803f80;
}
template <>
inline unsigned int ones<float16>() {
  return 0x3c003c00;
}

template <typename T>
inline void multiply_ones(float* sums, const unsigned int* b) {
  const unsigned int a[4] = {ones<T>(), ones<T>(), ones<T>(), ones<T>()};
  multiply<T>(sums, a, b);
}

// What `pair` adds to packed elements: the least power of two whose float has a bit for each of theirs below it. For 8
// bits in bfloat16 there is none.
template <typename T>
inline float offset(int bits);
template <>
inline float offset<bfloat16>(int bits) {
  return bits < 8 ? 128 : 0;
}
template <>
inline float offset<float16>(int) {
  return 1024;
}

// Words that begin where as many of them may, in as few loads as there are.
template <int COUNT>
inline void load(unsigned int* to, const unsigned int* from) {
  if (COUNT % 4 == 0) {
    for (int i = 0; i < COUNT; i += 4) {
      const uint4 words = *(const uint4*)(from + i);
      to[i] = words.x, to[i + 1] = words.y, to[i + 2] = words.z, to[i + 3] = words.w;
    }
  } else if (COUNT == 2) {
    const uint2 words = *(const uint2*)from;
    to[0] = words.x, to[1] = words.y;
  } else {
    for (int i = 0; i < COUNT; ++i) to[i] = from[i];
  }
}

// Element `i` of packed ones.
template <int BITS>
inline unsigned int element(const unsigned int* words, int i) {
  const int bit = i * BITS;
  unsigned int low = words[bit / 32] >> (bit % 32);
  if (bit % 32 + BITS > 32) low |= words[bit / 32 + 1] << (32 - bit % 32);
  return low & ((1u << BITS) - 1);
}

// Elements `i` and `i + 1` of packed ones, offset, as two floats in a word.
template <typename T, int BITS>
inline unsigned int pair(const unsigned int* words, int i) {
  if (offset<T>(BITS) == 0) {
    // Integers below 256 are floats whose lower half is zero; so are those with 2^23 added, but for that.
    const unsigned int word = words[i * BITS / 32];
    const float first = __uint_as_float(__byte_perm(word, 0x4b000000, 0x7440 + i % 4)) - 8388608.0f;
    const float second = __uint_as_float(__byte_perm(word, 0x4b000000, 0x7440 + i % 4 + 1)) - 8388608.0f;
    return __byte_perm(__float_as_uint(first), __float_as_uint(second), 0x7632);
  }
  unsigned int both;
  if (BITS == 4) {
    // A byte has both; it and its copy 12 bits up have the right bits where they belong.
    both = __byte_perm(words[i / 8], 0, 0x4440 + i % 8 / 2) * 0x1001 & 0x000f000f;
  } else {
    both = element<BITS>(words, i) | element<BITS>(words, i + 1) << 16;
  }
  return both | (offset<T>(BITS) == 128 ? 0x43004300 : 0x64006400);
}

// A group's part of a sum of sum (s q + b) x: `product` is sum (q + offset) x, `plain` sum x. Spelled out, so that each kernel rounds
// alike.
inline float with_group(float sum, float product, float plain, float scale, float shift) {
  return __fmaf_rn(shift, plain, __fmaf_rn(scale, product, sum));
}

// What a group's plain sum is multiplied by: b - s offset.
template <typename T>
inline float shift_of(float scale, float bias, int bits) {
  return __fmaf_rn(-scale, offset<T>(bits), bias);
}

// Keeps the compiler from calculating a number anew wherever it is used, to save registers.
inline void keep(unsigned int& x) { asm volatile("" : "+r"(x)); }

// Where a place in shared memory is, for `copy_later`.
inline unsigned int shared_place(const void* at) {
  unsigned long shared;
  asm("cvta.to.shared.u64 %0, %1;" : "=l"(shared) : "l"(at));
  return shared;
}

// 16 bytes on their way from the device's memory to shared memory, behind this thread's back; zeros if not `there`.
inline void copy_later(unsigned int to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}

// Ends a batch of such copies.
inline void end_batch() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until only so many of the last batches may still be on their way.
template <int COUNT>
inline void wait_for_batches() {
  asm volatile("cp.async.wait_group %0;" ::"n"(COUNT) : "memory");
}
