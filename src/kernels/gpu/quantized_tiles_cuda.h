  // x W^T for many rows of x, by tensor cores: a block has 128 rows of W, 16 a warp, and 64 of x at a time. It goes from
  // group to group of W's columns, while the next ones are on their way to shared memory. What is added in which
  // order is that of quantized_product_cuda.h, so that a row gives the same bits here and there.
  constexpr int WARPS = THREADS / 32;
  constexpr int STEP = GROUP < 64 ? GROUP : 64;  // Columns at a time.
  constexpr int STEPS = GROUP / STEP;
  constexpr int RUN = STEP / 4;  // Columns of a lane.
  constexpr int WORDS = RUN * BITS / 32;
  constexpr int TILES = ROWS_OF_X / 8;
  static_assert(TILES <= WARPS && TILES % 2 == 0, "each warp adds up the plain numbers of one tile, and multiplies two");
  constexpr int ROWS_OF_W = WARPS * 16;
  // Bytes of a row of each in shared memory; those of x lie so that eight rows' parts meet different banks.
  constexpr int X_BYTES = GROUP * 2 + (GROUP < 64 ? 0 : 16);
  constexpr int W_BYTES = GROUP * BITS / 8;
  constexpr int STAGE = ROWS_OF_X * X_BYTES + ROWS_OF_W * W_BYTES;
  static_assert(STAGE == STAGE_BYTES && STAGES >= 2, "as much memory as the launch asks for");
  extern __shared__ uint4 memory[];  // STAGES of them.
  __shared__ int from[ROWS_OF_X];    // Which row of x, and of the output.
  __shared__ int to[ROWS_OF_X];
  __shared__ float plain[ROWS_OF_X];
  const int lane = thread % 32;
  const int warp = thread / 32;
  const int quad = lane / 4;  // Which row of W, and of x.
  const int part = lane % 4;

  // Rows of x, of W, columns; pairs of a row and an expert for each row of x. Grouped, `experts` says where each expert's
  // pairs begin in the list of pairs that follows.
  const int rows = int(sizes[1]);
  const int columns = int(sizes[2]);
  const int groups = columns / GROUP;
  const int begin = GROUPED ? int(experts[group_y]) : group_y * ROWS_OF_X;
  const int end = GROUPED ? int(experts[group_y + 1]) : min(int(sizes[0]), begin + ROWS_OF_X);
  const unsigned int* pairs = experts + gridDim.y + 1;
  const int above = group_x * ROWS_OF_W;
  const long first = (GROUPED ? (long)group_y * rows : 0) + above;
  const bool works = above + warp * 16 < rows;
  const long own = works ? first + warp * 16 + quad : 0;

  const unsigned int base = shared_place(memory);

  for (int at = begin; at < end; at += ROWS_OF_X) {
    const int count = min(end - at, ROWS_OF_X);
    __syncthreads();
    if (thread < ROWS_OF_X) {
      const int place = at + min(thread, count - 1);
      to[thread] = GROUPED ? int(pairs[place]) : place;
      from[thread] = GROUPED ? to[thread] / int(sizes[3]) : to[thread];
    }
    __syncthreads();
    const auto fetch = [&](int group) {
      const unsigned int stage = base + group % STAGES * STAGE;
      constexpr unsigned int X_PIECES = GROUP / 8;
      static_assert(ROWS_OF_X * X_PIECES % THREADS == 0, "each thread has as many pieces of x");
#pragma unroll
      for (unsigned int begun = 0; begun < ROWS_OF_X * X_PIECES; begun += THREADS) {
        const unsigned int i = begun + thread;
        const unsigned int row = i / X_PIECES;
        const unsigned int piece = i % X_PIECES;
        const T* const line = x + (long)from[row] * columns + group * GROUP;
        copy_later(stage + row * X_BYTES + piece * 16, line + piece * 8, row < count);
      }
      constexpr unsigned int W_PIECES = W_BYTES / 16;
      const char* const lines = (const char*)weight + (first * columns + (long)group * GROUP) * BITS / 8;
#pragma unroll
      for (unsigned int begun = 0; begun < ROWS_OF_W * W_PIECES; begun += THREADS) {
        const unsigned int i = begun + thread;
        if (ROWS_OF_W * W_PIECES % THREADS != 0 && i >= ROWS_OF_W * W_PIECES) continue;
        const unsigned int row = i / W_PIECES;
        const char* const line = lines + (long)row * (columns * BITS / 8);
        copy_later(stage + ROWS_OF_X * X_BYTES + i * 16, line + i % W_PIECES * 16, above + row < rows);
      }
    };
#pragma unroll
    for (int group = 0; group < STAGES - 1; ++group) {
      if (group < groups) fetch(group);
      end_batch();
    }

    float totals[TILES][4];
    float sums[TILES][4];
    for (int tile = 0; tile < TILES; ++tile) {
      for (int i = 0; i < 4; ++i) totals[tile][i] = sums[tile][i] = 0;
    }
    int eighth = 0;  // Of the groups: what one of eight warps adds up there.
#pragma unroll 1
    for (int group = 0; group < groups; ++group) {
      float scale[2];
      float shift[2];
      for (int i = 0; i < 2; ++i) {
        const long number = works ? (own + i * 8) * groups + group : 0;
        scale[i] = float(scales[number]);
        shift[i] = shift_of<T>(scale[i], float(biases[number]), BITS);
      }
      wait_for_batches<STAGES - 2>();
      __syncthreads();
      const char* const stage = (const char*)memory + group % STAGES * STAGE;
      const char* const x_part = stage + quad * X_BYTES + part * RUN * 2;
      if (warp * 8 < count) {
        float sum_of_x[4] = {0, 0, 0, 0};
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
          unsigned int others[RUN / 2];
          load<RUN / 2>(others, (const unsigned int*)(x_part + warp * 8 * X_BYTES + step * STEP * 2));
#pragma unroll
          for (int i = 0; i < RUN; i += 4) multiply_ones<T>(sum_of_x, &others[i / 2]);
        }
        if (quad == 0) plain[warp * 8 + part * 2] = sum_of_x[0], plain[warp * 8 + part * 2 + 1] = sum_of_x[1];
      }
      if (group + STAGES - 1 < groups) fetch(group + STAGES - 1);
      end_batch();
      __syncthreads();
      if (!works) continue;

      unsigned int a[STEPS][RUN / 4][4];
#pragma unroll
      for (int step = 0; step < STEPS; ++step) {
        const char* const w_part =
            stage + ROWS_OF_X * X_BYTES + (warp * 16 + quad) * W_BYTES + (step * STEP + part * RUN) * BITS / 8;
        unsigned int upper[WORDS];
        unsigned int lower[WORDS];
        load<WORDS>(upper, (const unsigned int*)w_part);
        load<WORDS>(lower, (const unsigned int*)(w_part + 8 * W_BYTES));
#pragma unroll
        for (int i = 0; i < RUN; i += 4) {
          a[step][i / 4][0] = pair<T, BITS>(upper, i);
          a[step][i / 4][1] = pair<T, BITS>(lower, i);
          a[step][i / 4][2] = pair<T, BITS>(upper, i + 2);
          a[step][i / 4][3] = pair<T, BITS>(lower, i + 2);
          for (int j = 0; j < 4; ++j) keep(a[step][i / 4][j]);
        }
      }
#pragma unroll
      for (int two = 0; two < TILES; two += 2) {
        // Of two tiles the second may have no rows: what it adds up is not written.
        if (two * 8 >= count) continue;
#pragma unroll
        for (int tile = two; tile < two + 2; ++tile) {
          float products[4] = {0, 0, 0, 0};
#pragma unroll
          for (int step = 0; step < STEPS; ++step) {
            unsigned int others[RUN / 2];
            load<RUN / 2>(others, (const unsigned int*)(x_part + tile * 8 * X_BYTES + step * STEP * 2));
#pragma unroll
            for (int i = 0; i < RUN; i += 4) multiply<T>(products, a[step][i / 4], &others[i / 2]);
          }
          for (int i = 0; i < 4; ++i) {
            const float sum_of_x = plain[tile * 8 + part * 2 + i % 2];
            sums[tile][i] = with_group(sums[tile][i], products[i], sum_of_x, scale[i / 2], shift[i / 2]);
          }
        }
      }
      if (group + 1 == ((eighth + 1) * groups + 7) / 8) {
        for (int tile = 0; tile < TILES; ++tile) {
          for (int i = 0; i < 4; ++i) totals[tile][i] += sums[tile][i], sums[tile][i] = 0;
        }
        while (group + 1 == ((eighth + 1) * groups + 7) / 8) ++eighth;
      }
    }
    if (!works) continue;
    for (int tile = 0; tile < TILES; ++tile) {
      for (int i = 0; i < 4; ++i) {
        const int row = tile * 8 + part * 2 + i % 2;
        if (row < count) out[(long)to[row] * rows + above + warp * 16 + quad + i / 2 * 8] = T(totals[tile][i]);
      }
    }
  }
