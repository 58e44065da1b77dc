  const int thread = threadIdx.x;
  const int group_x = blockIdx.x;
  const int group_y = blockIdx.y;
