//! Models: where they lie on disk, what they are, and (with MLX) how they compute.
