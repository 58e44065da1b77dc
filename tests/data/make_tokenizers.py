#!/usr/bin/env python3
"""Makes the small tokenizers of the tests, and what the reference does with them.

    pip install tokenizers==0.23.3 && python3 tests/data/make_tokenizers.py

byte-tokenizer/   ids 0..255 are the bytes, 256 <eos>, 257 <bos>; no merges
byte-level-bpe/   GPT-2's kind, digits apart, trained on the text below; BOS before a text
sentencepiece/    Llama's kind: spaces as U+2581, merges by score, bytes for what is lacking

Each has tokenizer.json and tokenizer_config.json; the trained ones also expected.json: for texts their
ids without and with special tokens, and for id sequences their text with and without special tokens.
"""

import json
import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

HERE = Path(__file__).parent

CORPUS = [
    "The quick brown fox jumps over the lazy dog. The dog sleeps; the fox runs on and on.",
    "def add(a, b):\n    return a + b\n\nfor i in range(10):\n    print(add(i, 1))\n",
    "It's what we've said: don't you'll see, they're the ones that I'm after.",
    "Un café déjà vu, s'il vous plaît. Größe und Straße. 漢字と仮名、中文和标点。",
    "In 2024 there were 1234567 of them, or 3.14 times 365 days; see chapter 12.",
] * 4

TEXTS = [
    "",
    " ",
    "   ",
    "\n\n \n",
    "Hello, world!",
    " leading and trailing ",
    "    def f(x):\n\treturn x ** 2  # two\r\n",
    "1234567 12.5 ٣٤ ½",
    "naïve café déjà vu, e\u0301",
    "漢字と仮名、中文。 한국어",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽",
    "مرحبا עולם",
    "\x00\x01 \x7f\u200b\ufeff▁<0x41>",
    "<|start|>user\nHi<|end|>\n<|start|>",
    "<|pad|> <tool>x</tool>",
    "don't they'll I'VE",
]


def byte_alphabet():
    """GPT-2's map from bytes to characters."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + n) for n, b in enumerate(rest)}}


def special(text):
    return AddedToken(text, normalized=False, special=True)


def byte_tokenizer():
    tokenizer = Tokenizer(models.BPE(vocab={c: b for b, c in byte_alphabet().items()}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([special("<eos>"), special("<bos>")])
    write("byte-tokenizer", tokenizer, {"bos_token": "<bos>", "eos_token": "<eos>"})


def byte_level_bpe():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    names = ["<|start|>", "<|end|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=256 + len(names) + 120,
        special_tokens=[special(name) for name in names],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("  ", normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|start|> $A", special_tokens=[("<|start|>", tokenizer.token_to_id("<|start|>"))]
    )
    config = {"bos_token": "<|start|>", "eos_token": {"content": "<|end|>"}, "pad_token": "<|pad|>"}
    write("byte-level-bpe", tokenizer, config)
    expect("byte-level-bpe", tokenizer)


def sentencepiece():
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(Regex("▁+[^▁]*|[^▁]+"), "isolated")
    trained.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=240, show_progress=False))
    pieces = sorted(trained.get_vocab(), key=trained.get_vocab().get)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
    # As SentencePiece scores them: merges in the order of learning, single characters last.
    scores = [0.0] * len(tokens)
    singles = [piece for piece in pieces if len(piece) == 1]
    for piece in [piece for piece in pieces if len(piece) > 1] + singles:
        scores.append(-float(len(tokens) - 259))
        tokens.append(piece)
    vocab = {token: id for id, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocab, merges=merges(vocab, scores), unk_token="<unk>", fuse_unk=True, byte_fallback=True
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([special(name) for name in ["<unk>", "<s>", "</s>"]])
    tokenizer.add_special_tokens([special(name) for name in ["<|start|>", "<|end|>", "<|pad|>"]])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    write("sentencepiece", tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
    expect("sentencepiece", tokenizer, scores=scores)


def merges(vocab, scores):
    """Every way to put two pieces together to a third, best score first."""
    found = []
    for token, id in vocab.items():
        if id >= 259:
            for at in range(1, len(token)):
                left, right = token[:at], token[at:]
                if left in vocab and right in vocab:
                    found.append((-scores[id], -at, at - len(token), vocab[left], vocab[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def write(name, tokenizer, config):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=False) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def expect(name, tokenizer, **extra):
    rng = random.Random(0)
    size = tokenizer.get_vocab_size()
    sequences = [[rng.randrange(size + 3) for _ in range(rng.randrange(1, 24))] for _ in range(40)]
    # Characters cut anywhere, and bytes that are no character.
    sequences += [tokenizer.encode(text).ids[cut:][:7] for text in TEXTS for cut in (0, 1, 2, 3)]
    texts = [
        [text, *(tokenizer.encode(text, add_special_tokens=flag).ids for flag in (False, True))]
        for text in TEXTS
    ]
    decoded = [
        [ids, *(tokenizer.decode(ids, skip_special_tokens=flag) for flag in (False, True))]
        for ids in sequences
    ]
    expected = {"texts": texts, "sequences": decoded, **extra}
    path = HERE / name / "expected.json"
    path.write_text(json.dumps(expected, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    byte_tokenizer()
    byte_level_bpe()
    sentencepiece()
