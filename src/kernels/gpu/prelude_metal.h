// What the kernels' common text means in Metal.
#define SHARED threadgroup
#define BARRIER() threadgroup_barrier(metal::mem_flags::mem_threadgroup)
#define EXP(x) metal::exp(x)
#define RSQRT(x) metal::rsqrt(x)
#define COS(x) metal::precise::cos(x)
#define SIN(x) metal::precise::sin(x)
// An input that is written in place.
#define IN_PLACE(pointer) ((device T*)(pointer))

// The sum over the 32 threads that run together.
inline float sum_of_lanes(float x) { return metal::simd_sum(x); }
