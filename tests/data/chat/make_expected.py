#!/usr/bin/env python3
"""Write what transformers makes of conversations.json with each chat template.

    make_expected.py TEMPLATES... OUT

TEMPLATES are .jinja files; OUT is a folder, for one JSON file each: the texts by the conversation's name, null
where the template refuses the conversation; one on which it fails by accident is left out. Needs transformers 5 and jinja2. The clock stands at noon (UTC) of
7 June 2025.
"""
import datetime
import json
import os
import sys
import time
from pathlib import Path

os.environ["TZ"] = "UTC"
time.tzset()

import jinja2
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

HERE = Path(__file__).parent
CONVERSATIONS = json.loads((HERE / "conversations.json").read_text())
TOOLS = json.loads((HERE / "tools.json").read_text())


ACCIDENT = object()


class StoppedClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2025, 6, 7, 12, 0, 0)


chat_template_utils.datetime = StoppedClock


def render(tokenizer, conversation):
    switches = {}
    if "thinking" in conversation:
        switches = {"enable_thinking": conversation["thinking"], "thinking": conversation["thinking"]}
    try:
        return tokenizer.apply_chat_template(
            conversation["messages"],
            tools=TOOLS[conversation["tools"]] if "tools" in conversation else None,
            documents=conversation.get("documents"),
            add_generation_prompt=conversation.get("generation_prompt", True),
            tokenize=False,
            **switches,
            **conversation.get("arguments", {}),
        )
    except (jinja2.exceptions.TemplateError, TypeError) as error:
        print(f"  {conversation['name']}: {type(error).__name__}: {error}", file=sys.stderr)
        return None if type(error) is jinja2.exceptions.TemplateError else ACCIDENT


def main():
    *templates, out = map(Path, sys.argv[1:])
    out.mkdir(exist_ok=True)
    for path in templates:
        print(path.stem, file=sys.stderr)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()), bos_token="<s>", eos_token="</s>")
        tokenizer.chat_template = path.read_text()
        texts = {conversation["name"]: render(tokenizer, conversation) for conversation in CONVERSATIONS}
        texts = {name: text for name, text in texts.items() if text is not ACCIDENT}
        (out / f"{path.stem}.json").write_text(json.dumps(texts, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
