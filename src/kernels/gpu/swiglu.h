  // silu(gate) * up, of both side by side in a row (Shazeer 2020, arXiv:2002.05202).
  const int column = group_y * THREADS + thread;
  const long row = group_x;
  if (column < WIDTH) {
    const float gate = float(both[row * 2 * WIDTH + column]);
    const float up = float(both[row * 2 * WIDTH + WIDTH + column]);
    out[row * WIDTH + column] = T(gate / (1.0f + EXP(-gate)) * up);
  }
