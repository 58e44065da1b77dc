// What the kernels' common text means in CUDA. It stands alone: no header of CUDA's is included.
#define SHARED __shared__
#define BARRIER() __syncthreads()
#define EXP(x) __expf(x)
#define RSQRT(x) rsqrtf(x)
#define COS(x) __cosf(within_a_turn(x))
#define SIN(x) __sinf(within_a_turn(x))
// An input that is written in place.
#define IN_PLACE(pointer) const_cast<T*>(pointer)

// The same angle between -pi and pi: a turn in two parts, of which the first is exact (Cody and Waite 1980).
inline float within_a_turn(float angle) {
  const float turns = rintf(angle * 0.15915494f);
  return fmaf(turns, -0.0019353072f, fmaf(turns, -6.28125f, angle));
}

// The upper half of a 32-bit float.
struct bfloat16 {
  unsigned short bits;
  bfloat16() = default;
  explicit bfloat16(float x) {
    const unsigned int all = __float_as_uint(x);
    // To the nearest, the even one of two; a number that is none stays none.
    bits = x == x ? (all + 0x7fff + ((all >> 16) & 1)) >> 16 : 0x7fff;
  }
  operator float() const { return __uint_as_float((unsigned int)bits << 16); }
};

// A 16-bit IEEE float.
struct float16 {
  unsigned short bits;
  float16() = default;
  explicit float16(float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }
  operator float() const {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
  }
};

// The sum over the 32 threads that run together.
inline float sum_of_lanes(float x) {
  for (int other = 16; other > 0; other /= 2) x += __shfl_xor_sync(0xffffffffu, x, other);
  return x;
}
