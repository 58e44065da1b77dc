#!/usr/bin/env python3
"""What mlx-lm computes with small models of every architecture and every weight format, for tests/models.rs.

    pip install mlx-lm==0.32.0 "mlx[cpu]==0.32.2" numpy        (macOS: mlx==0.32.2)
    reference.py                  write models/*.json again
    reference.py --check          compare them with what mlx-lm computes now
    reference.py --only qwen3     only that model
    reference.py --out DIR --only qwen3     also write the model directory, for any other program to load

A file of models/ holds a config.json, its tensors as formulas (weights.py) and, computed by mlx-lm from a directory
with just these, in float32: logits at every position of a 40-token prompt (16 of each, and all at the last), and
for prompts of mixed lengths the 32 tokens with the largest logit in turn and by how much each won. `cases.py` says
which models there are.
"""
import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import _get_classes, load_model

import cases
import weights

MODELS = Path(__file__).parent / "models"
LOGITS_PROMPT, LOGITS_A_POSITION, NEW_TOKENS = 40, 16, 32
# How far two runs of mlx-lm may differ (other processors sum in another order); a fifth of what we may.
CHECK_TOLERANCE = 4e-4
FINAL_NORMS = ("model.norm", "norm_f")
E2M1_DEVIATION, E4M3_DEVIATION = 2.93, 0.6
# Of every byte but the top exponent bit: numbers up to 1.875, and no NaN.
E4M3_MASK = 0xBFBFBFBF


def quantization_of(config: dict, module: str):
    """What the configuration says of a module: a dictionary, or False if it is left as floats."""
    own = config.get("quantization")
    return own and own.get(module, own)


def skeleton(config: dict):
    """mlx-lm's model of this configuration, its weights arbitrary, quantized as a loader would."""
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))

    def how(path, module):
        own = quantization_of(config, path)
        return {key: own[key] for key in ("group_size", "bits", "mode") if key in own} \
            if own and hasattr(module, "to_quantized") else False

    if config.get("quantization"):
        nn.quantize(model, class_predicate=how)
    return model


def formula(case: dict, name: str, shape: list, quantization):
    """How a tensor's elements are made: of some size that keeps activations near 1 and logits apart."""
    module, _, leaf = name.rpartition(".")
    if own := case.get("formulas", lambda *_: None)(name, shape):
        return own
    if not quantization:
        if module.endswith(FINAL_NORMS):
            return {"float": [8.0, 1.6]}
        if len(shape) == 1 and leaf == "weight":
            return {"float": [1.0, 0.2]}
        if leaf != "weight":
            return {"float": [0.0, 0.2]}
        return {"float": [0.0, round(math.sqrt(3) * deviation(module, shape[-1]), 6)]}
    bits, mode = quantization["bits"], quantization.get("mode", "affine")
    columns = shape[-1] * (32 // bits if leaf == "weight" else quantization["group_size"])
    target = deviation(module, columns)
    if leaf == "weight":
        return {"words": E4M3_MASK if mode == "mxfp8" else 0xFFFFFFFF}
    if mode == "affine":
        scale = round(target * math.sqrt(12) / 2**bits, 6)
        if leaf == "scales":
            return {"float": [scale, scale / 4]}
        middle = -(2**bits - 1) / 2
        return {"float": [middle * scale, middle * scale / 4], "seed": f"{module}.scales"}
    exponent = round(math.log2(target / (E4M3_DEVIATION if mode == "mxfp8" else E2M1_DEVIATION)))
    return {"bytes": [(7 + exponent) << 3, 8] if mode == "nvfp4" else [127 + exponent, 2]}


def deviation(module: str, columns: int) -> float:
    """Layers must outweigh the embedding, lest a model with a tied output repeats its last token; the final norm
    makes up for it."""
    return 0.05 if module.endswith(("embed_tokens", "embeddings", "lm_head")) else 1.3 * columns**-0.5


def tensors_of(case: dict) -> list:
    """Every tensor mlx-lm's model has, as formulas."""
    config, out = case["config"], []
    names = {mx.bfloat16: "BF16", mx.float16: "F16", mx.float32: "F32", mx.uint32: "U32", mx.uint8: "U8"}
    parameters = tree_flatten(skeleton(config).parameters())
    quantized = {name.rpartition(".")[0] for name, _ in parameters if name.endswith(".scales")}
    for name, parameter in parameters:
        module, _, leaf = name.rpartition(".")
        own = quantization_of(config, module) if module in quantized and leaf != "bias" else None
        dtype = names[parameter.dtype]
        if dtype not in ("U32", "U8"):
            dtype = case.get("dtypes", lambda _: None)(name) or case.get("dtype", "BF16")
        how = formula(case, name, list(parameter.shape), own)
        tensor = {"name": name, "dtype": dtype, "shape": list(parameter.shape)} | how
        if "seed" in case:
            tensor["seed"] = f"{case['seed']} {tensor.get('seed', name)}"
        out.append(tensor)
    return case.get("layout", lambda tensors: tensors)(out)


def prompt(length: int, vocab_size: int) -> list:
    words = weights.stream(f"a prompt of {length}", 0, length)
    return [3 + int(word) % (vocab_size - 3) for word in words]


def logits(model, case: dict) -> dict:
    tokens = prompt(LOGITS_PROMPT, case["config"]["vocab_size"])
    rows = model(mx.array([tokens]))[0].astype(mx.float32).tolist()
    vocab = len(rows[0])
    shown = [[(37 * position + 29 * i) % vocab for i in range(LOGITS_A_POSITION)] for position in range(len(rows))]
    return {
        "prompt": tokens,
        "scale": [round(max(map(abs, row)), 4) for row in rows],
        "some": [[round(row[i], 4) for i in indices] for row, indices in zip(rows, shown)],
        "last": [round(x, 4) for x in rows[-1]],
    }


def greedy(model, tokens: list) -> dict:
    cache = make_prompt_cache(model)
    out, gaps, inputs = [], [], mx.array([tokens])
    for _ in range(NEW_TOKENS):
        last = model(inputs, cache=cache)[0, -1]
        second, first = sorted(mx.topk(last, 2).tolist())
        out.append(mx.argmax(last).item())
        gaps.append(round(first - second, 4))
        inputs = mx.array([[out[-1]]])
    return {"prompt": tokens, "tokens": out, "gaps": gaps}


def config_json(case: dict) -> dict:
    """The configuration as its file has it."""
    config = case["config"]
    if unnamed := case.get("unnamed"):
        quantization = {key: value for key, value in config["quantization"].items() if key not in unnamed}
        config = config | {"quantization": quantization}
    return config


def compute(case: dict, folder: Path) -> dict:
    tensors, config = tensors_of(case), config_json(case)
    shards = case.get("shards", 1)
    weights.write_model(folder, config, tensors, shards)
    model, _ = load_model(folder)
    model.set_dtype(mx.float32)
    lengths, vocab = case.get("lengths", cases.LENGTHS), case["config"]["vocab_size"]
    return {
        "mlx_lm": "0.32.0", "config": config, "shards": shards, "tensors": tensors,
        "logits": logits(model, case), "cases": [greedy(model, prompt(n, vocab)) for n in lengths],
    }


def write(path: Path, result: dict):
    """One line for each thing that one wants to see changed by itself."""
    lines = []
    for key, value in result.items():
        if key in ("tensors", "cases"):
            value = "[\n" + ",\n".join(json.dumps(one) for one in value) + "\n]"
        elif key == "logits":
            value = "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n}"
        else:
            value = json.dumps(value)
        lines.append(f"{json.dumps(key)}: {value}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def differences(name: str, new: dict, old: dict):
    """What differs between two results beyond rounding, in words."""
    for key in ("config", "shards", "tensors"):
        if new[key] != json.loads(json.dumps(old[key])):
            yield f"{name}: {key} differ"
            return
    rows = zip(new["logits"]["some"] + [new["logits"]["last"]], old["logits"]["some"] + [old["logits"]["last"]],
               old["logits"]["scale"] + old["logits"]["scale"][-1:])
    for position, (new_row, old_row, scale) in enumerate(rows):
        worst = max(abs(a - b) for a, b in zip(new_row, old_row, strict=True))
        if worst > CHECK_TOLERANCE * scale:
            yield f"{name}: logits at position {position} differ by {worst:.5f}, the largest is {scale}"
    for new_case, old_case in zip(new["cases"], old["cases"], strict=True):
        for i, (a, b, gap) in enumerate(zip(new_case["tokens"], old_case["tokens"], old_case["gaps"])):
            if a != b:
                if gap >= 0.02:
                    yield f"{name}: after {len(old_case['prompt'])} tokens, token {i} is {a}, was {b} by {gap}"
                break


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", choices=sorted(cases.CASES))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    mx.set_default_device(mx.cpu)
    wrong = []
    for name in [args.only] if args.only else cases.CASES:
        with tempfile.TemporaryDirectory() as temporary:
            folder = args.out or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            result = compute(cases.CASES[name], folder)
        path = MODELS / f"{name}.json"
        gaps = sorted(gap for case in result["cases"] for gap in case["gaps"])
        print(f"{name}: largest logit {max(result['logits']['scale'])}, smallest gaps {gaps[:3]}")
        if args.check:
            wrong += differences(name, result, json.loads(path.read_text()))
        else:
            MODELS.mkdir(exist_ok=True)
            write(path, result)
    print("\n".join(wrong) or ("mlx-lm computes what is committed" if args.check else ""))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
