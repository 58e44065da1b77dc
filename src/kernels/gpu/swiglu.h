  // silu(gate) * up, of both side by side in a row (Shazeer 2020, arXiv:2002.05202).
  const int width = both_shape[1] / 2;
  const int column = group_x * THREADS + thread;
  const long row = group_y;
  if (column < width) {
    const float gate = float(both[row * 2 * width + column]);
    const float up = float(both[row * 2 * width + width + column]);
    out[row * width + column] = T(gate / (1.0f + EXP(-gate)) * up);
  }
