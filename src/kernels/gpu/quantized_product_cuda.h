  // x W^T for few rows of x, by tensor cores: 16 rows of W and 8 of x at a time. Eight warps share 16 rows of W, each has
  // an eighth of its groups. Within a group any order of its columns will do, as long as both operands have the same:
  // each of four lanes takes a run of them, which lies in one piece in memory. Elements enter as they are packed, offset
  // by a power of two (an `or` makes a float of one); scale, bias and offset are applied to the sums of a group:
  // sum (s q + b) x = s sum (q + offset) x + (b - s offset) sum x.
  constexpr int WARPS = THREADS / 32;
  constexpr int STEP = GROUP < 64 ? GROUP : 64;  // Columns at a time.
  constexpr int RUN = STEP / 4;                  // Columns of a lane.
  constexpr int WORDS = RUN * BITS / 32;
  const int lane = thread % 32;
  const int warp = thread / 32;
  const int quad = lane / 4;  // Which row of W, and of x.
  const int part = lane % 4;

  // Rows of x, of W, columns; experts that share a row of x.
  const int count = GATHER ? 1 : int(sizes[0]);
  const int rows = int(sizes[1]);
  const int columns = int(sizes[2]);
  const int groups = columns / GROUP;
  const long first = (long)group_x * 16 + (GATHER ? (long)experts[group_y] * rows : 0);
  const T* own = GATHER ? x + (long)(group_y / int(sizes[3])) * columns : x;

  float sums[TILES][4];
  for (int tile = 0; tile < TILES; ++tile) {
    for (int i = 0; i < 4; ++i) sums[tile][i] = 0;
  }
  const int end = ((warp + 1) * groups + WARPS - 1) / WARPS;
#pragma unroll 1
  for (int group = (warp * groups + WARPS - 1) / WARPS; group < end; ++group) {
    const float scale[2] = {float(scales[(first + quad) * groups + group]),
                            float(scales[(first + quad + 8) * groups + group])};
    const float shift[2] = {
        shift_of<T>(scale[0], float(biases[(first + quad) * groups + group]), BITS),
        shift_of<T>(scale[1], float(biases[(first + quad + 8) * groups + group]), BITS)};
    float products[TILES][4];
    float plain[TILES][4];
    for (int tile = 0; tile < TILES; ++tile) {
      for (int i = 0; i < 4; ++i) products[tile][i] = plain[tile][i] = 0;
    }
#pragma unroll
    for (int step = 0; step < GROUP / STEP; ++step) {
      const long column = (long)group * GROUP + step * STEP + part * RUN;
      unsigned int upper[WORDS];
      unsigned int lower[WORDS];
      load<WORDS>(upper, weight + ((first + quad) * columns + column) * BITS / 32);
      load<WORDS>(lower, weight + ((first + quad + 8) * columns + column) * BITS / 32);
      unsigned int others[TILES][RUN / 2];
      for (int tile = 0; tile < TILES; ++tile) {
        const int row = tile * 8 + quad;
        for (int i = 0; i < RUN / 2; ++i) others[tile][i] = 0;
        if (row < count) load<RUN / 2>(others[tile], (const unsigned int*)(own + (long)row * columns + column));
      }
#pragma unroll
      for (int i = 0; i < RUN; i += 4) {
        const unsigned int a[4] = {pair<T, BITS>(upper, i), pair<T, BITS>(lower, i), pair<T, BITS>(upper, i + 2),
                                   pair<T, BITS>(lower, i + 2)};
        for (int tile = 0; tile < TILES; ++tile) {
          multiply<T>(products[tile], a, &others[tile][i / 2]);
          multiply_ones<T>(plain[tile], &others[tile][i / 2]);
        }
      }
    }
    for (int tile = 0; tile < TILES; ++tile) {
      for (int i = 0; i < 4; ++i) {
        sums[tile][i] = with_group(sums[tile][i], products[tile][i], plain[tile][i], scale[i / 2], shift[i / 2]);
      }
    }
  }

  __shared__ float parts[WARPS][TILES * 8][16];
  for (int tile = 0; tile < TILES; ++tile) {
    for (int i = 0; i < 4; ++i) parts[warp][tile * 8 + part * 2 + i % 2][quad + i / 2 * 8] = sums[tile][i];
  }
  __syncthreads();
  for (int i = thread; i < TILES * 8 * 16; i += THREADS) {
    const int row = i / 16;
    if (row < count) {
      float sum = 0;
      for (int w = 0; w < WARPS; ++w) sum += parts[w][row][i % 16];
      const long to = GATHER ? group_y : row;
      out[to * rows + (long)group_x * 16 + i % 16] = T(sum);
    }
  }
