  const int thread = thread_position_in_threadgroup.x;
  const int group_x = threadgroup_position_in_grid.x;
  const int group_y = threadgroup_position_in_grid.y;
