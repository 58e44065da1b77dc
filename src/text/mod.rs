//! Text in and out: tokenizer, streaming detokenizer.
