  // A step's plan: blocks that each head has in the pool, tokens, the tables' width; each token's position, and which
  // table is its sequence's; the tables.
  const int pool_blocks = int(plan[0]);
  const int tokens = int(plan[1]);
  const int position = int(plan[3 + group_y]);
  const int table = 3 + 2 * tokens + int(plan[3 + tokens + group_y]) * int(plan[2]);
