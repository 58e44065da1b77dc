//! Without a GPU: that kernels step aside. With one: that they pass their own check.

use super::*;
use crate::mlx::Device;

fn shape() -> PagedShape {
    PagedShape { heads: 6, kv_heads: 2, head_dim: 64, block_size: 16 }
}

#[test]
fn kernels_pass_their_check_or_step_aside() {
    let device = Device::best().unwrap();
    let kernels = GpuKernels::new(device.gpu().unwrap_or(Gpu::Cuda));
    assert!(kernels.attention().is_none() && kernels.swiglu().is_none(), "used unchecked");
    device.run(|| kernels.check(shape(), Dtype::Float16));
    assert_eq!(kernels.attention().is_some(), device.is_gpu());
    assert_eq!(kernels.swiglu().is_some(), device.is_gpu());
}

#[test]
fn heads_that_do_not_fit_are_refused() {
    for head_dim in [48, 80, 288] {
        let odd = PagedShape { head_dim, ..shape() };
        let e = PagedAttention::checked(Gpu::Cuda, odd, Dtype::Float16).err().unwrap();
        assert!(e.message().contains(&head_dim.to_string()), "{e}");
    }
}

#[test]
fn numbers_that_differ_are_noticed() {
    let a = numbers(&[2, 3], Dtype::Float32).unwrap();
    compare(&a, &a, Dtype::Float32).unwrap();
    let b = mlx_rs::ops::add(&a, Array::from_f32(0.001)).unwrap();
    compare(&a, &b, Dtype::Bfloat16).unwrap();
    assert!(compare(&a, &b, Dtype::Float32).is_err());
    let nan = Array::from_slice(&[f32::NAN; 6], &[2, 3]);
    assert!(compare(&nan, &a, Dtype::Bfloat16).is_err());
}

#[test]
fn a_plan_lists_contexts_and_tables() {
    let layout = crate::cache::PageLayout { kv_heads: 1, num_blocks: 4, block_size: 2, head_dim: 32 };
    let plan = PagedAttention::plan(&layout, &[(3, &[2, 0]), (1, &[1]), (3, &[])]);
    let plan: Vec<i32> = plan.to_vec_exact().unwrap();
    assert_eq!(plan, [5, 3, 2, 3, 1, 3, 2, 0, 1, 4, 4, 4]);
}
