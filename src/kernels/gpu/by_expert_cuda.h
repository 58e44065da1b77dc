  // Pairs of a row and an expert in the order of experts, by counting: where each expert's begin, and where the last one's
  // end; then the pairs. The order among an expert's own may differ from run to run: nothing depends on it.
  __shared__ int counts[THREADS];
  const int pairs = int(sizes[0]);
  const int experts = int(sizes[1]);
  counts[thread] = 0;
  __syncthreads();
  for (int i = thread; i < pairs; i += THREADS) atomicAdd(&counts[which[i]], 1);
  __syncthreads();
  const int own = counts[thread];
  int until = own;
  for (int by = 1; by < THREADS; by *= 2) {
    const int before = thread >= by ? counts[thread - by] : 0;
    __syncthreads();
    until += before;
    counts[thread] = until;
    __syncthreads();
  }
  if (thread < experts) out[thread] = until - own;
  if (thread == experts - 1) out[experts] = until;
  counts[thread] = until - own;
  __syncthreads();
  for (int i = thread; i < pairs; i += THREADS) out[experts + 1 + atomicAdd(&counts[which[i]], 1)] = i;
