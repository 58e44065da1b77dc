#!/usr/bin/env python3
"""Write what the reference makes of corpus.json with a published model's tokenizer.

    make_expected.py TOKENIZER_JSON OUT

OUT is a JSON list, one entry for each text: its ids without and with special tokens. Needs tokenizers 0.23.
"""
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer

CORPUS = json.loads((Path(__file__).parent / "corpus.json").read_text())


def main():
    source, out = map(Path, sys.argv[1:])
    tokenizer = Tokenizer.from_file(str(source))
    rows = [
        json.dumps({
            "plain": tokenizer.encode(text, add_special_tokens=False).ids,
            "special": tokenizer.encode(text, add_special_tokens=True).ids,
            "text": tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=True),
        }, ensure_ascii=False)
        for text in CORPUS
    ]
    out.write_text("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    main()
