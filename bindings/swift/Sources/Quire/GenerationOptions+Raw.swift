import CQuire

extension GenerationOptions {
    /// Sets what these options say, and leaves the rest as the library has it.
    func fill(_ raw: inout quire_request_options, _ arena: Arena) throws {
        try fillLength(&raw, arena)
        try fillSampling(&raw)
        try fillPenalties(&raw, arena)
        if let logProbabilities {
            raw.logprobs = 1
            raw.top_logprobs = try fitting(logProbabilities.alternatives, "logProbabilities.alternatives")
            raw.prompt_logprobs = logProbabilities.includesPrompt ? 1 : 0
        }
        raw.priority = try fitting(priority, "priority")
        if let timeout {
            // 0 is the library's "no deadline"; beyond the largest is as good as none.
            let milliseconds = max(1, timeout / .milliseconds(1)).rounded()
            raw.timeout_ms = UInt64(exactly: milliseconds) ?? .max
        }
        (raw.cache_salt, raw.cache_salt_len) = arena.copy(cacheSalt)
        if let isParsed {
            raw.parse = isParsed ? QUIRE_PARSE_ON : QUIRE_PARSE_OFF
        }
        if let grammar {
            raw.grammar_kind = grammar.kind
            (raw.grammar, raw.grammar_len) = arena.copy(grammar.text)
        }
    }

    private func fillLength(_ raw: inout quire_request_options, _ arena: Arena) throws {
        if let maximumResponseTokens {
            raw.max_tokens = try fitting(maximumResponseTokens, "maximumResponseTokens")
        }
        if let minimumResponseTokens {
            raw.min_tokens = try fitting(minimumResponseTokens, "minimumResponseTokens")
        }
        let strings = stopStrings.map { string in
            let (bytes, count) = arena.copy(string)
            return quire_string(bytes: bytes, len: count)
        }
        (raw.stop_strings, raw.stop_string_count) = (arena.copy(strings), strings.count)
        (raw.stop_tokens, raw.stop_token_count) = (arena.copy(stopTokens), stopTokens.count)
        raw.ignore_eos = ignoresEndOfSequence ? 1 : 0
    }

    private func fillSampling(_ raw: inout quire_request_options) throws {
        if let temperature {
            raw.temperature = Float(temperature)
        }
        if let typicalProbability {
            raw.typical_p = Float(typicalProbability)
        }
        if let xtcProbability {
            raw.xtc_probability = Float(xtcProbability)
        }
        if let xtcThreshold {
            raw.xtc_threshold = Float(xtcThreshold)
        }
        if let sampling {
            try sampling.fill(&raw, temperature: temperature)
        }
    }

    private func fillPenalties(_ raw: inout quire_request_options, _ arena: Arena) throws {
        if let repetition = penalties.repetition {
            raw.repetition_penalty = Float(repetition)
        }
        if let presence = penalties.presence {
            raw.presence_penalty = Float(presence)
        }
        if let frequency = penalties.frequency {
            raw.frequency_penalty = Float(frequency)
        }
        if let window = penalties.window {
            raw.penalty_window = try fitting(window, "penalties.window")
        }
        // In order of the tokens, so that an error names the same one each time.
        let biases = tokenBiases.sorted { $0.key < $1.key }.map { token, bias in
            quire_logit_bias(token: token, bias: Float(bias))
        }
        (raw.logit_bias, raw.logit_bias_count) = (arena.copy(biases), biases.count)
    }
}

extension GenerationOptions.SamplingMode {
    fileprivate func fill(_ raw: inout quire_request_options, temperature: Double?) throws {
        if isGreedy {
            if let temperature, temperature != 0 {
                throw QuireError(.invalidArgument, "temperature is \(temperature), and the sampling is greedy")
            }
            return
        }
        if temperature == nil {
            raw.temperature = 1
        }
        if let top {
            raw.top_k = try fitting(top, "top")
        }
        if let probabilityThreshold {
            raw.top_p = Float(probabilityThreshold)
        }
        if let minimumProbability {
            raw.min_p = Float(minimumProbability)
        }
        if let seed {
            raw.seed = seed
        }
    }
}

extension Grammar {
    fileprivate var kind: quire_grammar_kind {
        switch self {
        case .jsonSchema: QUIRE_GRAMMAR_JSON_SCHEMA
        case .jsonObject: QUIRE_GRAMMAR_JSON_OBJECT
        case .regex: QUIRE_GRAMMAR_REGEX
        case .choice: QUIRE_GRAMMAR_CHOICE
        case .lark: QUIRE_GRAMMAR_LARK
        }
    }

    fileprivate var text: String {
        switch self {
        case .jsonSchema(let schema): schema.json
        case .jsonObject: ""
        case .regex(let text), .lark(let text): text
        case .choice(let texts): JSON.array(texts.map(JSON.string))
        }
    }
}
