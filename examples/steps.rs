//! Runs a model by steps, without the engine: loads it, prefills a prompt, decodes, prints tokens and
//! times. `cargo run --release --example steps -- MODEL [prompt tokens] [new tokens] [streams]`

use std::time::Instant;

use quire::engine::load::load;
use quire::model::LoadOptions;
use quire::model::locate::locate;
use quire::sampling::{RowSampling, SamplingParams};
use quire::scheduler::{Row, RowInput, Step};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let model = args.get(1).ok_or("usage: steps MODEL [prompt tokens] [new tokens] [streams]")?;
    let number = |i: usize, default: usize| args.get(i).map_or(Ok(default), |text| text.parse());
    let (prompt, new, streams) = (number(2, 16)?, number(3, 32)?, number(4, 1)?);

    let start = Instant::now();
    let options = LoadOptions { max_sequences: streams.max(1), ..LoadOptions::default() };
    let mut loaded = load(&locate(model)?, &options, &mut |_, _| true)?;
    println!("load {:.2} s, {:?}", start.elapsed().as_secs_f64(), loaded.info);
    println!("resident {} MB", resident_mb());
    let greedy = SamplingParams::default();
    let runner = &mut loaded.runner;
    let per_stream = (prompt + new).div_ceil(options.block_size);
    let blocks = |s: usize| ((s * per_stream) as u32..((s + 1) * per_stream) as u32).collect::<Vec<u32>>();
    let vocab = loaded.info.vocab_size as usize;

    for round in 0..2 {
        let mut out = vec![Vec::new(); streams];
        let start = Instant::now();
        for s in 0..streams {
            let tokens = (0..prompt).map(|i| ((i * 7919 + 1000 + s) % (vocab - 100) + 50) as u32).collect();
            let row = Row {
                id: s as u64,
                slot: s as u32,
                input: RowInput::Tokens(tokens),
                start: 0,
                blocks: blocks(s).into(),
                samples: true,
                sampled_before: 0,
            };
            runner
                .launch(&Step { rows: vec![row], ..Step::default() }, &[Some(RowSampling::new(&greedy))])?;
            for sampled in runner.collect()? {
                out[sampled.id as usize].push(sampled.token);
            }
        }
        let prefill = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let mut launched = 0;
        for n in 1..new {
            let rows: Vec<Row> = (0..streams)
                .map(|s| Row {
                    id: s as u64,
                    slot: s as u32,
                    input: RowInput::Sampled,
                    start: (prompt + n - 1) as u32,
                    blocks: blocks(s).into(),
                    samples: true,
                    sampled_before: n as u32,
                })
                .collect();
            runner
                .launch(&Step { rows, ..Step::default() }, &vec![Some(RowSampling::new(&greedy)); streams])?;
            launched += 1;
            if launched > 1 {
                launched -= 1;
                for sampled in runner.collect()? {
                    out[sampled.id as usize].push(sampled.token);
                }
            }
        }
        for sampled in runner.collect()? {
            out[sampled.id as usize].push(sampled.token);
        }
        let decode = start.elapsed().as_secs_f64();
        println!(
            "round {round}: prefill {prompt} x {streams} in {:.1} ms ({:.0} tok/s), decode {:.2} ms a step, {:.1} tok/s",
            prefill * 1e3,
            (prompt * streams) as f64 / prefill,
            decode * 1e3 / (new - 1) as f64,
            ((new - 1) * streams) as f64 / decode,
        );
        println!("{:?}", &out[0][..out[0].len().min(16)]);
    }
    println!("{:?}, resident {} MB", runner.memory(), resident_mb());
    Ok(())
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) / 1024
}
