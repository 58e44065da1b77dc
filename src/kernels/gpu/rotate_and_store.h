  // A head of a token to 32 threads: query and key heads are normalized and rotated (Su et al. 2021, arXiv:2104.09864;
  // an element and its counterpart half a head away); queries go out, keys and values into their slots.
  constexpr int HALF = DIM / 2;
  constexpr int ALL_HEADS = HEADS + 2 * KV_HEADS;
  const int lane = thread % 32;
  const int head = group_x * (THREADS / 32) + thread / 32;
  const long token = group_y;
  if (head < ALL_HEADS) {
    const bool is_query = head < HEADS;
    const bool is_value = head >= HEADS + KV_HEADS;
    const long from = (token * ALL_HEADS + head) * DIM;
    const int block = is_query ? 0 : int(plan[table + position / BLOCK]);
    const long slot = ((long)(head - HEADS) * pool_blocks + block) * BLOCK + position % BLOCK;
    const long to = (is_query ? token * HEADS + head : slot) * DIM;

    // The numbers of a layer: what the norms add under the root, what rotated heads are multiplied by, the angle of
    // each pair of elements for a step of one position, the norms' weights for queries and for keys.
    float norm = 1;
    if (NORMS && !is_value) {
      float squares = 0;
      for (int i = lane; i < DIM; i += 32) squares += float(qkv[from + i]) * float(qkv[from + i]);
      norm = RSQRT(sum_of_lanes(squares) / DIM + numbers[0]);
    }
    const int weights = 2 + HALF + (is_query ? 0 : DIM);
    for (int i = lane; i < HALF; i += 32) {
      float own = float(qkv[from + i]);
      float other = float(qkv[from + HALF + i]);
      if (NORMS && !is_value) {
        own *= norm * numbers[weights + i];
        other *= norm * numbers[weights + HALF + i];
      }
      if (TURNS && !is_value) {
        const float angle = float(position) * numbers[2 + i];
        const float cosine = COS(angle) * numbers[1];
        const float sine = SIN(angle) * numbers[1];
        const float turned = own * cosine - other * sine;
        other = own * sine + other * cosine;
        own = turned;
      }
      if (is_query) {
        queries[to + i] = T(own);
        queries[to + HALF + i] = T(other);
      } else {
        IN_PLACE(pool)[to + i] = T(own);
        IN_PLACE(pool)[to + HALF + i] = T(other);
      }
    }
  }
  // What reads the pool next waits for this.
  if (thread == 0 && group_x == 0 && group_y == 0) stored[0] = 0;
