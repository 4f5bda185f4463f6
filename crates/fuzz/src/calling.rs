//! The target `fuzz-abi`: a guest calls imports with any pointers, lengths and numbers, and is answered with anything.
//!
//! What must hold: all that the guest asks, logs, writes and returns, how it ends, and its memory to the last byte, are
//! as the [`model`](crate::model) says; the meters keep to their limits; and the one slot is free again afterwards.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use arbitrary::{Arbitrary, Unstructured};
use fuseboard_core::limits::LIMIT_NAMES;
use fuseboard_core::{
    Answer, Engine, EngineConfig, Entry, Execution, Input, LogLine, Module, MoveError, StepKind, Trap, Turn, Usage,
    is_printable,
};

use crate::model::{Asked, End, Model, OUT_OF_FUEL, PAGE_BYTES, Reply};
use crate::session::{AMPLE_TIME, LIMIT_PAGES, Place, Response, Session};

const GUEST: &str = include_str!("guest.wat");
const SETTINGS: &[u8] = br#"{"settings":[1,2,3]}"#;

/// Runs the target on an input's bytes.
///
/// # Panics
/// A rule was broken.
pub fn target(bytes: &[u8]) {
    if let Ok(session) = Session::arbitrary_take_rest(Unstructured::new(bytes)) {
        check(&session);
    }
}

/// Says what an input means, for whoever reads a finding.
#[must_use]
pub fn explained(bytes: &[u8]) -> String {
    format!("{:#?}", Session::arbitrary_take_rest(Unstructured::new(bytes)))
}

fn check(session: &Session) {
    let records = session.records();
    let script: Vec<u8> = records.iter().flat_map(|record| record.to_bytes()).collect();
    let input = Input { value: script, context: vec![b'c'; 77], call_info: b"{}".to_vec() };
    let replies: Vec<Reply> = session.replies.iter().map(Response::reply).collect();
    let empty = Vec::new;
    let buffers =
        [input.value.clone(), input.context.clone(), empty(), empty(), SETTINGS.to_vec(), input.call_info.clone()];
    let mut model = Model::new(session.limits(), session.caps(), buffers, replies.clone());
    let end = model.run(&records);
    let execution = entry(session).begin(input, Instant::now() + AMPLE_TIME);
    let real = Real::of(&execution, replies);
    compare(session, &model, &end, &real);
}

fn entry(session: &Session) -> Entry {
    static MODULES: LazyLock<[Arc<Module>; 3]> = LazyLock::new(|| {
        let config = EngineConfig { memory_ceiling_bytes: LIMIT_PAGES * PAGE_BYTES, slots: 1 };
        let engine = Engine::new(config).unwrap_or_else(|error| panic!("no engine: {error}"));
        [Place::Export, Place::Start, Place::Initialize].map(|place| Arc::new(guest(&engine, place)))
    });
    let module = MODULES[session.place as usize].clone();
    Entry::new(module, "run", SETTINGS, session.limits(), session.caps())
        .unwrap_or_else(|error| panic!("the guest has no export: {error}"))
}

fn guest(engine: &Engine, place: Place) -> Module {
    let begin = match place {
        Place::Export => r#"(export "run" (func $main))"#,
        Place::Start => r#"(start $main) (func (export "run"))"#,
        Place::Initialize => r#"(export "_initialize" (func $main)) (func (export "run"))"#,
    };
    let open = GUEST.trim_end().strip_suffix(')').unwrap_or_else(|| panic!("the guest does not end in a bracket"));
    let text = format!("{open} {begin})");
    let wasm = wat::parse_str(text).unwrap_or_else(|error| panic!("the guest can't be translated: {error}"));
    Module::new(engine, &wasm).unwrap_or_else(|error| panic!("the guest does not load: {error}"))
}

// ── what really happens ──────────────────────────────────────────────────────────────────────────

type Ended = Result<Option<Vec<u8>>, Trap>;

/// What was seen of an execution.
struct Real {
    asked: Vec<Asked>,
    lines: Vec<LogLine>,
    /// How it ended; `None` where it was dropped.
    ended: Option<(Ended, Usage)>,
}

impl Real {
    fn of(execution: &Execution, replies: Vec<Reply>) -> Self {
        let mut replies = replies.into_iter();
        let mut real = Self { asked: Vec::new(), lines: Vec::new(), ended: None };
        let turn = execution.turn().unwrap_or_else(|error| panic!("no turn: {error:?}"));
        while real.ended.is_none() {
            assert_eq!(turn.answer(Answer::default()), Err(MoveError::NeedsNoAnswer), "nothing was asked");
            let step = turn.slice();
            real.lines.extend(step.logs);
            match step.kind {
                StepKind::Running => {}
                StepKind::Completed(output, usage) => real.ended = Some((Ok(output), usage)),
                StepKind::Trapped(trap, usage) => real.ended = Some((Err(trap), usage)),
                StepKind::Suspended(call) => {
                    real.asked.push(Asked { import: call.import, parts: call.parts, number: call.number });
                    let reply = replies.next().unwrap_or(Reply::Answer(Answer::default()));
                    if !go_on(execution, &turn, reply) {
                        return real;
                    }
                }
            }
        }
        assert_eq!(turn.go_on(), Err(MoveError::Ended), "what has ended doesn't go on");
        real
    }
}

/// Replies to a host call; says whether the execution is still there.
fn go_on(execution: &Execution, turn: &Turn<'_>, reply: Reply) -> bool {
    assert_eq!(turn.go_on(), Err(MoveError::NeedsAnswer), "a host call waits for its answer");
    let replied = match reply {
        Reply::Answer(answer) => turn.answer(answer),
        Reply::Trip(limit) => turn.trip(limit.to_owned()),
        Reply::Interrupt => {
            execution.interrupt();
            turn.answer(Answer::default())
        }
        Reply::Drop => return false,
    };
    assert_eq!(replied, Ok(()), "a host call takes one reply");
    true
}

// ── the rules ────────────────────────────────────────────────────────────────────────────────────

fn compare(session: &Session, model: &Model, end: &End, real: &Real) {
    let fuel_limit = session.limits().fuel;
    let (real_end, usage) = match &real.ended {
        None => (End::Dropped, None),
        Some((Ok(output), usage)) => (End::Completed(output.clone()), Some(usage)),
        Some((Err(trap), usage)) => (trapped(trap, end), Some(usage)),
    };
    let ran_out = real_end == OUT_OF_FUEL && model.fuel + model.fuel_besides >= fuel_limit;
    if ran_out {
        assert!(model.asked.starts_with(&real.asked), "asked {:?}, not {:?}", real.asked, model.asked);
    } else {
        assert!(*end == real_end, "ended with {real_end:?}, not {end:?}");
        compare_asked(&model.asked, &real.asked);
    }
    compare_lines(model, &real.lines, ran_out);
    let Some(usage) = usage else { return };
    assert!(usage.fuel <= fuel_limit, "spent {} of {fuel_limit} fuel", usage.fuel);
    if ran_out {
        assert!(usage.fuel_is_exact && usage.fuel == fuel_limit, "ran out of fuel at {} of {fuel_limit}", usage.fuel);
        assert!(usage.memory_bytes <= model.memory.len(), "held {} bytes", usage.memory_bytes);
    } else {
        compare_usage(model, usage);
    }
}

fn compare_usage(model: &Model, usage: &Usage) {
    let range = model.fuel..=model.fuel + model.fuel_besides;
    assert!(!usage.fuel_is_exact || range.contains(&usage.fuel), "spent {} fuel, not {range:?}", usage.fuel);
    assert!(usage.fuel <= *range.end(), "spent {} fuel, more than {range:?}", usage.fuel);
    assert_eq!(usage.memory_bytes, model.memory.len(), "the meter and the memory");
}

fn trapped(trap: &Trap, expected: &End) -> End {
    assert_is_printable(&trap.detail);
    let limit = trap.limit.as_deref().map(|limit| {
        LIMIT_NAMES.into_iter().find(|name| *name == limit).unwrap_or_else(|| panic!("there is no limit {limit}"))
    });
    // What the guest said is compared where it is plain text; else only its being printable is known of it.
    let said = match expected {
        End::Trapped(cause, _, said) if *cause == trap.cause => {
            if is_plain(said) && said.len() <= 4096 {
                assert!(said.is_empty() || trap.detail.as_bytes() == said, "said {:?}, not {said:?}", trap.detail);
            }
            said.clone()
        }
        _ => Vec::new(),
    };
    End::Trapped(trap.cause, limit, said)
}

fn compare_asked(expected: &[Asked], asked: &[Asked]) {
    for (place, (expected, asked)) in expected.iter().zip(asked).enumerate() {
        assert_eq!((expected.import, expected.number), (asked.import, asked.number), "host call {place}");
        assert_eq!(expected.parts.len(), asked.parts.len(), "parts of host call {place}");
        for (expected, part) in expected.parts.iter().zip(&asked.parts) {
            assert_eq!(expected.len(), part.len(), "bytes of a part of host call {place}");
            let differs = expected.iter().zip(part).position(|(expected, byte)| expected != byte);
            assert_eq!(differs, None, "the first byte of host call {place} that is not as it must be");
        }
    }
    assert_eq!(expected.len(), asked.len(), "host calls");
}

fn compare_lines(model: &Model, lines: &[LogLine], is_cut: bool) {
    let expected = &model.lines;
    assert!(lines.len() == expected.len() || is_cut && lines.len() < expected.len(), "{} lines", lines.len());
    for (expected, line) in expected.iter().zip(lines) {
        assert_is_printable(&line.text);
        match expected {
            None => assert!(line.level == 2 && line.text.starts_with("the log is full"), "no notice: {line:?}"),
            Some((level, text)) => {
                assert_eq!(*level, line.level, "the level of a line");
                assert!(!is_plain(text) || line.text.as_bytes() == text, "logged {:?}, not {text:?}", line.text);
            }
        }
    }
}

fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| (0x20..0x7f).contains(byte))
}

/// Holds what came from a guest to what can be shown on a terminal.
pub(crate) fn assert_is_printable(text: &str) {
    let odd = text.chars().find(|character| !is_printable(*character));
    assert_eq!(odd, None, "not printable: {text:?}");
}
