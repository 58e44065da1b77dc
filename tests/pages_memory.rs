//! The page pool is written in place: a process of its own, since MLX counts memory for all of one.
#![cfg(feature = "mlx")]

mod common;

use common::{Driver, expected, load_named};
use quire::cache::{PageLayout, pages::Pages};
use quire::mlx::{Array, Device, Dtype};
use quire::model::WeightFormat;
use quire::sampling::SamplingParams;

/// One test, so that no other runs beside it.
#[test]
fn steps_in_flight_do_not_copy_the_pool() {
    a_second_reference_would_show();
    let cases = expected();
    let cache = 192 << 20;
    let mut driver = Driver::new(load_named("tiny-llama", WeightFormat::Auto, cache, true), true);
    let pools = driver.loaded.runner.memory().pages as usize;
    let layer = pools / driver.loaded.info.layers as usize;
    assert!(pools as u64 > cache / 2, "a pool of {pools} bytes");
    let who: Vec<usize> =
        cases.iter().map(|case| driver.add(&case.prompt, SamplingParams::default())).collect();
    // The longest context gathers a little; far less than a layer's pool.
    mlx_rs::memory::reset_peak_memory().unwrap();
    let before = mlx_rs::memory::active_memory().unwrap();
    driver.run(&who, 32, 40);
    let peak = mlx_rs::memory::peak_memory().unwrap();
    assert!(peak < before + layer / 4, "peak {peak}, {before} before, a layer's pool has {layer}");
}

/// That peak memory does show a copied pool.
fn a_second_reference_would_show() {
    let device = Device::best().unwrap();
    device.run(|| {
        let layout = PageLayout { kv_heads: 2, num_blocks: 16_000, block_size: 16, head_dim: 32 };
        let mut pages = Pages::new(layout, 1, Dtype::Float32, device.is_gpu()).unwrap();
        let bytes = pages.bytes() as usize;
        let kv = mlx_rs::ops::ones_dtype(&[1, 4, 32], Dtype::Float32).unwrap();
        let slots = pages.slots([(0usize, &[3u32][..])].into_iter()).unwrap();
        for (held, copies) in [(false, 0), (true, 1)] {
            let second: Option<Array> = held.then(|| pages.arrays()[0].clone());
            mlx_rs::memory::reset_peak_memory().unwrap();
            let before = mlx_rs::memory::active_memory().unwrap();
            pages.write(0, &kv, &slots).unwrap();
            pages.arrays()[0].eval().unwrap();
            let rise = mlx_rs::memory::peak_memory().unwrap() - before;
            assert_eq!((rise + bytes / 2) / bytes, copies, "rose by {rise}, the pool has {bytes}");
            drop(second);
        }
    });
}
