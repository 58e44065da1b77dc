  // One query head of one token: 32 threads each take keys in turn, 4 at a time, each with a softmax of its own that is
  // rescaled as its maximum grows (Milakov and Gimelshein 2018, arXiv:1805.02867); at the end they are joined.
  constexpr int WARPS = THREADS / 32;
  constexpr int TOGETHER = 4;
  constexpr int PER_LANE = DIM / 32;
  const float LEAST = -1e30f;
  const int lane = thread % 32;
  const int warp = thread / 32;
  const int head = group_x;
  const int context = position + 1;
  const long keys = (long)(head / (HEADS / KV_HEADS)) * pool_blocks;
  const long values = (long)KV_HEADS * pool_blocks * BLOCK * DIM;
  const long own = ((long)group_y * HEADS + head) * DIM;

  float query[PER_LANE];
  float mixed[PER_LANE];
  for (int i = 0; i < PER_LANE; ++i) {
    query[i] = float(queries[own + i * 32 + lane]) * RSQRT(float(DIM));
    mixed[i] = 0;
  }
  float top = LEAST;
  float total = 0;
  for (int first = warp * TOGETHER; first < context; first += WARPS * TOGETHER) {
    long at[TOGETHER];
    float scores[TOGETHER];
    for (int j = 0; j < TOGETHER; ++j) {
      const int key = first + j < context ? first + j : context - 1;
      at[j] = ((keys + int(plan[table + key / BLOCK])) * BLOCK + key % BLOCK) * DIM + lane;
      float score = 0;
      for (int i = 0; i < PER_LANE; ++i) score += query[i] * float(pool[at[j] + i * 32]);
      scores[j] = score;
    }
    float best = top;
    for (int j = 0; j < TOGETHER; ++j) {
      scores[j] = sum_of_lanes(scores[j]);
      if (first + j >= context) scores[j] = LEAST;
      best = scores[j] > best ? scores[j] : best;
    }
    const float keep = EXP(top - best);
    total *= keep;
    for (int i = 0; i < PER_LANE; ++i) mixed[i] *= keep;
    for (int j = 0; j < TOGETHER; ++j) {
      const float weight = first + j < context ? EXP(scores[j] - best) : 0.0f;
      total += weight;
      for (int i = 0; i < PER_LANE; ++i) mixed[i] += weight * float(pool[values + at[j] + i * 32]);
    }
    top = best;
  }

  SHARED float tops[WARPS];
  SHARED float totals[WARPS];
  SHARED float parts[WARPS * DIM];
  if (lane == 0) {
    tops[warp] = top;
    totals[warp] = total;
  }
  for (int i = 0; i < PER_LANE; ++i) parts[warp * DIM + i * 32 + lane] = mixed[i];
  BARRIER();
  if (thread < DIM) {
    float best = LEAST;
    for (int w = 0; w < WARPS; ++w) best = tops[w] > best ? tops[w] : best;
    float sum = 0;
    float all = 0;
    for (int w = 0; w < WARPS; ++w) {
      const float keep = EXP(tops[w] - best);
      all += keep * totals[w];
      sum += keep * parts[w * DIM + thread];
    }
    out[own + thread] = T(sum / all);
  }
