//! Without a GPU: that kernels step aside. With one: that they pass their own check.

use super::checks::{compare, floats, numbers};
use super::*;
use crate::mlx::Device;

fn shape() -> PagedShape {
    PagedShape { heads: 6, kv_heads: 2, head_dim: 64, block_size: 16, norms: true, turns: true }
}

#[test]
fn kernels_pass_their_check_or_step_aside() {
    let device = Device::best().unwrap();
    for dtype in [Dtype::Float32, Dtype::Float16, Dtype::Bfloat16] {
        for (norms, turns) in [(true, true), (false, true), (false, false)] {
            let kernels = GpuKernels::new(device.gpu().unwrap_or(Gpu::Cuda));
            let both = numbers(&[2, 600], dtype).unwrap();
            assert!(kernels.pages().is_none() && kernels.swiglu(&both).is_none(), "used unchecked");
            let pages = PagedShape { norms, turns, ..shape() };
            let packings = vec![(4, 32), (4, 64), (4, 128), (6, 64), (6, 128), (8, 32), (8, 64), (8, 128)];
            let wanted =
                Wanted { dtype, pages, gated: vec![300, 256], packings: packings.clone(), experts: norms };
            device.run(|| kernels.check(&wanted));
            assert_eq!(kernels.pages().is_some(), device.is_gpu());
            assert_eq!(kernels.swiglu(&both).is_some(), device.is_gpu());
            let tensor_cores = device.gpu() == Some(Gpu::Cuda) && dtype != Dtype::Float32;
            for packing in packings {
                assert_eq!(kernels.product(packing).is_some(), tensor_cores, "{packing:?}, {dtype:?}");
            }
            assert_eq!(kernels.by_expert().is_some(), tensor_cores && norms, "{dtype:?}");
            assert!(kernels.product((6, 32)).is_none(), "no such packing was checked");
            assert!(
                kernels.swiglu(&numbers(&[2, 300], dtype).unwrap()).is_none(),
                "of no width that was checked"
            );
        }
    }
}

#[test]
fn heads_that_do_not_fit_are_refused() {
    for head_dim in [48, 80, 288] {
        let odd = PagedShape { head_dim, ..shape() };
        let e = PageKernels::checked(Gpu::Cuda, odd, Dtype::Float16).err().unwrap();
        assert!(e.message().contains(&head_dim.to_string()), "{e}");
    }
}

#[test]
fn numbers_that_differ_are_noticed() {
    let a = floats(&numbers(&[2, 3], Dtype::Float32).unwrap()).unwrap();
    compare("numbers", &a, &a, Dtype::Float32).unwrap();
    let b: Vec<f32> = a.iter().map(|a| a + 0.001).collect();
    compare("numbers", &a, &b, Dtype::Bfloat16).unwrap();
    assert!(compare("numbers", &a, &b, Dtype::Float32).is_err());
    assert!(compare("numbers", &[f32::NAN; 6], &a, Dtype::Bfloat16).is_err());
    assert!(compare("numbers", &a[1..], &a, Dtype::Bfloat16).is_err());
}
