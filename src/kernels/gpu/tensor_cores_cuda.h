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
  const unsigned int both = element<BITS>(words, i) | element<BITS>(words, i + 1) << 16;
  if (offset<T>(BITS) == 0) {
    // Integers below 256 are floats whose lower half is zero.
    const float first = (float)(both & 0xffff);
    const float second = (float)(both >> 16);
    return __float_as_uint(first) >> 16 | (__float_as_uint(second) & 0xffff0000);
  }
  return both | (offset<T>(BITS) == 128 ? 0x43004300 : 0x64006400);
}
