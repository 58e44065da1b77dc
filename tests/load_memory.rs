//! Loading onto a GPU keeps nothing of a module but what is held: a process of its own, since MLX counts memory for
//! all of one.
#![cfg(feature = "mlx")]

#[path = "common/formula.rs"]
mod formula;

use formula::{Reference, Tensor};
use quire::engine::load::load;
use quire::model::LoadOptions;
use quire::model::locate::locate;
use quire::model::weights::STAGE;

/// A bfloat16 model of so many layers whose feed-forward matrices are almost all of it: bytes of one of them, too.
fn large(layers: usize) -> (Reference, usize) {
    let mut model = Reference::read("format-bf16");
    let width = 16384;
    model.config["intermediate_size"] = width.into();
    model.config["num_hidden_layers"] = layers.into();
    let in_layer = |tensor: &Tensor, layer: usize| {
        let mut own = tensor.clone();
        own.name = tensor.name.replace("layers.0", &format!("layers.{layer}"));
        let rows = usize::from(own.name.contains("down_proj"));
        if own.name.contains(".mlp.") {
            own.shape[rows] = width;
        }
        own
    };
    let tensors = std::mem::take(&mut model.tensors);
    let (layer, rest): (Vec<_>, Vec<_>) = tensors.into_iter().partition(|t| t.name.contains("layers.0"));
    model.tensors = (0..layers).flat_map(|n| layer.iter().map(move |t| in_layer(t, n))).chain(rest).collect();
    let hidden = model.config["hidden_size"].as_u64().unwrap() as usize;
    (model, hidden * width * 2)
}

/// One test, so that no other runs beside it.
#[test]
fn beside_what_is_held_there_is_one_module() {
    let layers = 6;
    let (model, matrix) = large(layers);
    let dir = model.write();
    let files = locate(dir.path().to_str().unwrap()).unwrap();
    let options = LoadOptions {
        as_on_gpu: true,
        max_sequences: 1,
        cache_bytes: Some(8 << 20),
        ..LoadOptions::default()
    };
    let mut peaks = Vec::new();
    let mut begun = None;
    let loaded = load(&files, &options, &mut |_, stage| {
        let active = mlx_rs::memory::active_memory().unwrap();
        let before = *begun.get_or_insert(active);
        if stage == STAGE {
            peaks.push((mlx_rs::memory::peak_memory().unwrap() - before, active - before));
        }
        mlx_rs::memory::reset_peak_memory().unwrap();
        true
    });
    let held = loaded.unwrap().info.weight_bytes as usize;
    assert!(held > 3 * layers * matrix && held < (3 * layers + 1) * matrix, "{held} bytes of {matrix}");
    // Gate and up are one module: of both, what is stored and what is made of it.
    let largest = 4 * matrix;
    let mut earlier = 0;
    for &(peak, active) in &peaks {
        assert!(peak <= earlier + largest + matrix / 8, "{peak}, with {earlier} held before: {peaks:?}");
        earlier = active;
    }
    assert!(earlier <= held + matrix / 8, "{earlier} bytes are in use, {held} are held");
    assert!(peaks.iter().any(|&(peak, active)| peak >= active + matrix), "nothing was joined: {peaks:?}");
}
