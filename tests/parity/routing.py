#!/usr/bin/env python3
"""Which experts mlx-lm's routers choose, and with what weights, for every way to choose; for layers/router/tests.rs.

    pip install mlx-lm==0.32.0 "mlx[cpu]==0.32.2"        (macOS: mlx==0.32.2)
    routing.py              write routing.json again
    routing.py --check      compare it with what mlx-lm computes now

Each case has a router's outputs for a few rows and what mlx-lm's own code makes of them, in float32: the
experts of each row in rising order, and their weights.
"""
import argparse
import json
import sys
import types
from pathlib import Path

import mlx.core as mx
from mlx_lm.models.mixtral import MixtralSparseMoeBlock
from mlx_lm.models.nemotron_h import group_expert_select
from mlx_lm.models.qwen3_moe import Qwen3MoeSparseMoeBlock

FILE = Path(__file__).with_suffix(".json")
ROWS = 5


def of_block(block, outputs):
    """What a mixture-of-experts block hands to its experts, and multiplies their outputs by."""
    seen = {}

    def experts(x, chosen):
        seen["experts"] = chosen
        # Expert i of a row answers with the i-th unit vector, so that the block returns the weights.
        return mx.broadcast_to(mx.eye(chosen.shape[-1]), (*chosen.shape, chosen.shape[-1]))

    block.gate, block.switch_mlp = (lambda x: x), experts
    return seen, block(outputs)


def qwen3_moe(outputs, experts, k, normalize):
    args = types.SimpleNamespace(hidden_size=8, moe_intermediate_size=8, num_experts=experts,
                                 num_experts_per_tok=k, norm_topk_prob=normalize)
    seen, weights = of_block(Qwen3MoeSparseMoeBlock(args), outputs)
    return seen["experts"], weights


def mixtral(outputs, experts, k):
    args = types.SimpleNamespace(hidden_size=8, intermediate_size=8, num_local_experts=experts,
                                 num_experts_per_tok=k)
    seen, weights = of_block(MixtralSparseMoeBlock(args), outputs)
    return seen["experts"], weights


def case(name, experts, k, scoring, correct=False, groups=1, groups_used=1, normalize=False, scale=1.0):
    outputs = 2 * mx.random.normal((ROWS, experts))
    correction = 0.3 * mx.random.normal((experts,)) if correct else None
    if scoring == "softmax":
        chosen, weights = qwen3_moe(outputs, experts, k, normalize)
    elif scoring == "softmax_of_chosen":
        chosen, weights = mixtral(outputs, experts, k)
    else:
        bias = correction if correct else mx.zeros((experts,))
        chosen, weights = group_expert_select(outputs, bias, k, groups, groups_used, scale, normalize)
    order = mx.argsort(chosen, axis=-1)
    return {
        "name": name, "experts": experts, "per_token": k, "scoring": scoring, "groups": groups,
        "groups_used": groups_used, "normalize": normalize, "scale": scale,
        "outputs": [[round(v, 6) for v in row] for row in outputs.tolist()],
        "correction": [round(v, 6) for v in correction.tolist()] if correct else None,
        "chosen": mx.take_along_axis(chosen, order, -1).tolist(),
        "weights": [[round(v, 7) for v in row] for row in mx.take_along_axis(weights, order, -1).tolist()],
    }


def cases():
    mx.random.seed(11)
    return [
        case("softmax", 8, 2, "softmax"),
        case("softmax, normalised", 16, 4, "softmax", normalize=True),
        case("softmax, one expert", 8, 1, "softmax", normalize=True),
        case("softmax, all experts", 4, 4, "softmax", normalize=True),
        case("softmax of the chosen", 8, 2, "softmax_of_chosen"),
        case("sigmoid", 8, 3, "sigmoid"),
        case("sigmoid, one expert is not normalised", 8, 1, "sigmoid", normalize=True),
        case("sigmoid, corrected, normalised, scaled", 16, 6, "sigmoid", True, normalize=True, scale=2.5),
        case("sigmoid, within groups", 16, 4, "sigmoid", groups=4, groups_used=2),
        case("sigmoid, within groups, corrected, normalised, scaled", 16, 3, "sigmoid", True, 4, 1, True, 1.5),
        case("sigmoid, within all groups", 16, 4, "sigmoid", True, 4, 4, True),
    ]


def differences(new, old):
    """What differs between two cases beyond rounding, in words."""
    for key in new:
        if key != "weights" and new[key] != old[key]:
            yield f"{new['name']}: {key} differs"
    worst = max(abs(a - b) for a, b in zip(sum(new["weights"], []), sum(old["weights"], []), strict=True))
    if worst > 1e-6:
        yield f"{new['name']}: weights differ by {worst}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    mx.set_default_device(mx.cpu)
    new = cases()
    if not args.check:
        FILE.write_text('{"cases": [\n' + ",\n".join(json.dumps(one) for one in new) + "\n]}\n")
        return
    old = json.loads(FILE.read_text())["cases"]
    wrong = [line for pair in zip(new, old, strict=True) for line in differences(*pair)]
    print("\n".join(wrong) or "mlx-lm chooses the experts that are committed")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
