//! A caller's request options as the engine takes them: pointers checked, numbers made enums.

use super::super::chat::read_chat;
use super::super::guard;
use super::{
    QUIRE_GRAMMAR_CHOICE, QUIRE_GRAMMAR_JSON_OBJECT, QUIRE_GRAMMAR_JSON_SCHEMA, QUIRE_GRAMMAR_LARK,
    QUIRE_GRAMMAR_NONE, QUIRE_GRAMMAR_REGEX, QUIRE_PARSE_DEFAULT, QUIRE_PARSE_OFF, QUIRE_PARSE_ON,
    quire_request_options, quire_string,
};
use crate::engine::{Prompt, RequestOptions};
use crate::error::Error;
use crate::grammar::{Grammar, GrammarKind};
use crate::sampling::{LogprobRequest, Penalties, SamplingParams};

/// Reads and checks a caller's request.
///
/// # Safety
/// As for `quire_engine_submit`.
pub(super) unsafe fn read_request(options: *const quire_request_options) -> Result<RequestOptions, Error> {
    // SAFETY: passed on from the caller, field by field.
    unsafe {
        let options = guard::versioned(options, "options")?;
        let prompt = read_prompt(&options)?;
        Ok(RequestOptions {
            prompt,
            max_tokens: options.max_tokens,
            n: if is_old(&options) { 1 } else { options.n },
            min_tokens: options.min_tokens,
            sampling: read_sampling(&options)?,
            logprobs: LogprobRequest {
                chosen: guard::flag(options.logprobs, "logprobs")?,
                top: options.top_logprobs,
                prompt: guard::flag(options.prompt_logprobs, "prompt_logprobs")?,
            },
            grammar: read_grammar(&options)?,
            stop_tokens: guard::slice(options.stop_tokens, options.stop_token_count, "stop_tokens")?.to_vec(),
            stop_strings: read_strings(options.stop_strings, options.stop_string_count, "stop_strings")?,
            parse: match options.parse {
                QUIRE_PARSE_DEFAULT => None,
                QUIRE_PARSE_ON => Some(true),
                QUIRE_PARSE_OFF => Some(false),
                other => return Err(Error::argument(format!("parse is {other}, want 0 to 2"))),
            },
            ignore_eos: guard::flag(options.ignore_eos, "ignore_eos")?,
            priority: options.priority,
            timeout: match options.timeout_ms {
                0 => None,
                ms => Some(std::time::Duration::from_millis(ms)),
            },
            cache_salt: guard::slice(options.cache_salt.cast::<u8>(), options.cache_salt_len, "cache_salt")?
                .to_vec(),
            tag: options.tag as usize,
        })
    }
}

/// The one prompt that is set.
///
/// # Safety
/// As for `quire_engine_submit`.
unsafe fn read_prompt(options: &quire_request_options) -> Result<Prompt, Error> {
    let set = [!options.prompt.is_null(), !options.prompt_tokens.is_null(), !options.chat.is_null()];
    // SAFETY: passed on, field by field.
    unsafe {
        match set {
            [true, false, false] => {
                Ok(Prompt::Text(guard::text(options.prompt, options.prompt_len, "prompt")?.to_owned()))
            }
            [false, true, false] => Ok(Prompt::Tokens(
                guard::slice(options.prompt_tokens, options.prompt_token_count, "prompt_tokens")?.to_vec(),
            )),
            [false, false, true] => Ok(Prompt::Chat(Box::new(read_chat(options.chat)?))),
            [false, false, false] => Err(Error::argument("prompt, prompt_tokens and chat are all NULL")),
            _ => Err(Error::argument("more than one of prompt, prompt_tokens and chat is set; set one")),
        }
    }
}

/// A caller's texts, copied.
///
/// # Safety
/// `strings` is NULL or valid for reading `count` of them, and each of them for its own length.
unsafe fn read_strings(strings: *const quire_string, count: usize, name: &str) -> Result<Vec<String>, Error> {
    // SAFETY: passed on.
    let strings = unsafe { guard::slice(strings, count, name)? };
    if strings.len() > crate::text::MAX_STOP_STRINGS {
        // Said before anything is copied.
        let most = crate::text::MAX_STOP_STRINGS;
        return Err(Error::argument(format!("{name} has {count} strings, want at most {most}")));
    }
    let read = |(i, s): (usize, &quire_string)| {
        // SAFETY: passed on.
        unsafe { guard::text(s.bytes, s.len, &format!("{name}[{i}]")) }.map(str::to_owned)
    };
    strings.iter().enumerate().map(read).collect()
}

/// Whether a caller's header did not know `n` and what follows it: there the struct has zeros.
fn is_old(options: &quire_request_options) -> bool {
    options.struct_size <= std::mem::offset_of!(quire_request_options, n)
}

/// A caller's sampling settings.
///
/// # Safety
/// As for `quire_engine_submit`.
unsafe fn read_sampling(options: &quire_request_options) -> Result<SamplingParams, Error> {
    let or_one = |value: f32| if is_old(options) { 1.0 } else { value };
    // SAFETY: passed on.
    let bias = unsafe { guard::slice(options.logit_bias, options.logit_bias_count, "logit_bias")? };
    Ok(SamplingParams {
        temperature: options.temperature,
        top_k: options.top_k,
        top_p: options.top_p,
        min_p: options.min_p,
        typical_p: or_one(options.typical_p),
        xtc_probability: options.xtc_probability,
        xtc_threshold: options.xtc_threshold,
        penalties: Penalties {
            repetition: or_one(options.repetition_penalty),
            presence: options.presence_penalty,
            frequency: options.frequency_penalty,
            window: options.penalty_window,
        },
        logit_bias: bias.iter().map(|bias| (bias.token, bias.bias)).collect(),
        seed: options.seed,
    })
}

/// A caller's grammar.
///
/// # Safety
/// As for `quire_engine_submit`.
unsafe fn read_grammar(options: &quire_request_options) -> Result<Option<Grammar>, Error> {
    // SAFETY: passed on.
    let text = unsafe { guard::text(options.grammar, options.grammar_len, "grammar")? };
    let kind = match options.grammar_kind {
        QUIRE_GRAMMAR_NONE if text.is_empty() => return Ok(None),
        QUIRE_GRAMMAR_NONE => return Err(Error::argument("grammar is set but grammar_kind is not")),
        QUIRE_GRAMMAR_JSON_SCHEMA => GrammarKind::JsonSchema,
        QUIRE_GRAMMAR_JSON_OBJECT => GrammarKind::JsonObject,
        QUIRE_GRAMMAR_REGEX => GrammarKind::Regex,
        QUIRE_GRAMMAR_LARK => GrammarKind::Lark,
        QUIRE_GRAMMAR_CHOICE => GrammarKind::Choice,
        other => {
            return Err(Error::argument(format!("grammar_kind is {other}, want one of QUIRE_GRAMMAR_*")));
        }
    };
    Ok(Some(Grammar { kind, text: text.to_owned() }))
}
