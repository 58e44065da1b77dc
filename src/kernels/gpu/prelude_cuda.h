// What the kernels' common text means in CUDA.
#define SHARED __shared__
#define BARRIER() __syncthreads()
#define EXP(x) __expf(x)
#define RSQRT(x) rsqrtf(x)

// The sum over the 32 threads that run together.
__device__ inline float sum_of_lanes(float x) {
  for (int other = 16; other > 0; other /= 2) x += __shfl_xor_sync(0xffffffffu, x, other);
  return x;
}
