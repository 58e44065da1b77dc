use std::fs;

use super::*;

fn put(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let file = dir.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
}

fn find(path: &Path) -> Result<ModelFiles> {
    locate_in(path.to_str().unwrap(), None)
}

fn directory(path: &Path) -> ModelDirectory {
    match find(path).unwrap() {
        ModelFiles::Directory(d) => d,
        ModelFiles::Gguf(p) => panic!("{} taken for GGUF", p.display()),
    }
}

fn assert_error(result: Result<ModelFiles>, status: Status, parts: &[&str]) {
    let e = result.unwrap_err();
    assert_eq!(e.status(), status, "{e}");
    for part in parts {
        assert!(e.message().contains(part), "'{e}' does not say '{part}'");
    }
}

#[test]
fn a_single_file_and_the_optional_ones() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &[("config.json", "{}"), ("model.safetensors", ""), ("adapter.safetensors", "")]);
    let d = directory(dir.path());
    assert_eq!(d.config, dir.path().join("config.json"));
    assert_eq!(d.shards, [dir.path().join("model.safetensors")]);
    assert_eq!((d.index, d.tokenizer, d.tokenizer_config), (None, None, None));

    put(dir.path(), &[("tokenizer.json", ""), ("tokenizer_config.json", ""), ("chat_template.jinja", "")]);
    put(dir.path(), &[("generation_config.json", "")]);
    let d = directory(dir.path());
    assert_eq!(d.tokenizer, Some(dir.path().join("tokenizer.json")));
    assert_eq!(d.tokenizer_config, Some(dir.path().join("tokenizer_config.json")));
    assert_eq!(d.generation_config, Some(dir.path().join("generation_config.json")));
    assert_eq!(d.chat_template, Some(dir.path().join("chat_template.jinja")));
}

#[test]
fn shards_by_index_and_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let two = [("model-2.safetensors", ""), ("model-1.safetensors", ""), ("config.json", "{}")];
    put(dir.path(), &two);
    let both = [dir.path().join("model-1.safetensors"), dir.path().join("model-2.safetensors")];
    let d = directory(dir.path());
    assert_eq!((d.shards.as_slice(), d.index), (&both[..], None));

    let index = r#"{"metadata":{}, "weight_map": {"a":"model-2.safetensors","b":"model-2.safetensors"}}"#;
    put(dir.path(), &[("model.safetensors.index.json", index)]);
    let d = directory(dir.path());
    assert_eq!(d.shards, both[1..]);
    assert_eq!(d.index.unwrap()["b"], both[1]);
}

#[test]
fn a_damaged_index_is_named() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &[("config.json", "{}"), ("outside.safetensors", "")]);
    let inner = dir.path().join("model");
    put(&inner, &[("config.json", "{}"), ("model.safetensors", "")]);
    const INDEX: &str = "model.safetensors.index.json";
    for (text, part) in [
        (r#"{"weight_map": {"a": "gone.safetensors"}}"#, "shard 'gone.safetensors' ('a') is missing"),
        (r#"{"weight_map": {"a": "../outside.safetensors"}}"#, "no plain file name"),
        (r#"{"weight_map": {"a": "/etc/passwd"}}"#, "no plain file name"),
        (r#"{"weight_map": {"a": ""}}"#, "no plain file name"),
        (r#"{"weight_map": {}}"#, "names no tensor"),
        (r#"{"weight_map": {"a": 1}}"#, "line 1 column"),
        (r#"{"weight_m"#, "line 1 column"),
        ("{}", "weight_map"),
    ] {
        put(&inner, &[(INDEX, text)]);
        assert_error(find(&inner), Status::ModelInvalid, &[INDEX, part]);
    }
}

#[test]
fn what_is_no_model() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    assert_error(find(dir.path()), Status::ModelInvalid, &[path, "config.json"]);
    put(dir.path(), &[("x.gguf", "")]);
    assert_error(find(dir.path()), Status::ModelInvalid, &["x.gguf"]);
    put(dir.path(), &[("config.json", "{}")]);
    assert_error(find(dir.path()), Status::ModelInvalid, &[path, "safetensors"]);
    put(dir.path(), &[("pytorch_model.bin", "")]);
    assert_error(find(dir.path()), Status::ModelUnsupported, &["pytorch_model.bin"]);
    assert_error(find(&dir.path().join("config.json")), Status::ModelUnsupported, &["config.json"]);
    assert_error(find(&dir.path().join("none")), Status::ModelNotFound, &["none"]);
    for name in ["", "\0", "models/none.gguf", "./org/name", "../name", "a/b/c", "~/x"] {
        assert_error(locate_in(name, None), Status::ModelNotFound, &[]);
    }
    assert!(!locate_in("models/none.gguf", None).unwrap_err().message().contains("hf download"));
}

#[test]
fn a_gguf_file_is_taken_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &[("X.GGUF", "")]);
    let file = dir.path().join("X.GGUF");
    assert_eq!(find(&file).unwrap(), ModelFiles::Gguf(file));
}

#[test]
fn the_hub_cache_is_looked_up() {
    let cache = tempfile::tempdir().unwrap();
    let name = "mlx-community/Qwen3-0.6B-8bit";
    let lookup = || locate_in(name, Some(cache.path()));
    assert_error(lookup(), Status::ModelNotFound, &[name, "hf download mlx-community/Qwen3-0.6B-8bit"]);

    let repository = cache.path().join("models--mlx-community--Qwen3-0.6B-8bit");
    put(&repository, &[("refs/main", "abc123\n"), ("snapshots/abc123/model.safetensors", "")]);
    assert_error(lookup(), Status::ModelNotFound, &["incomplete", "hf download"]);
    put(&repository, &[("snapshots/abc123/config.json", "{}")]);
    assert_eq!(lookup().unwrap().path(), repository.join("snapshots/abc123"));
    put(&repository, &[("refs/main", "../../elsewhere")]);
    assert_error(lookup(), Status::ModelNotFound, &["incomplete"]);
    assert_error(locate_in(name, None), Status::ModelNotFound, &["HOME", "hf download"]);
}

#[test]
fn the_cache_is_where_the_environment_says() {
    let cache = |vars: &[(&str, &str)]| {
        hub_cache(|key| vars.iter().find(|v| v.0 == key).map(|v| v.1.into()))
            .map(|p| p.to_str().unwrap().to_owned())
    };
    let all = [("HF_HUB_CACHE", "/a"), ("HF_HOME", "/b"), ("XDG_CACHE_HOME", "/c"), ("HOME", "/d")];
    assert_eq!(cache(&all).as_deref(), Some("/a"));
    assert_eq!(cache(&all[1..]).as_deref(), Some("/b/hub"));
    assert_eq!(cache(&all[2..]).as_deref(), Some("/c/huggingface/hub"));
    assert_eq!(cache(&all[3..]).as_deref(), Some("/d/.cache/huggingface/hub"));
    assert_eq!(cache(&[("HF_HOME", "~/x"), ("HOME", "/d")]).as_deref(), Some("/d/x/hub"));
    assert_eq!(cache(&[("HF_HOME", ""), ("HOME", "/d")]).as_deref(), Some("/d/.cache/huggingface/hub"));
    assert_eq!(cache(&[]), None);
}
