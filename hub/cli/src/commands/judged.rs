//! What is read from what a step prints, as people see it before the run.

use steward_shared::template::{Expected, Find, Piece, Reading, Saved, Source, Step, Values, Word};

use super::preview::{argument_text, glob, joined, line, one_line};

/// What a step waits to be saved before it, what it must print, and what is saved of that.
pub(super) fn judged(
    out: &mut String,
    (number, step): (u16, &Step),
    (readings, values): (&[Reading], &Values),
) {
    let text = |expected| text(expected, values);
    if let Some(when) = &step.when {
        let is = when.is.as_ref();
        let is = is.map(|value| format!(" as {}", argument_text(&value.to_string())));
        let name = one_line(&when.input);
        line(
            out,
            &format!("only where «{name}» is saved{}", is.unwrap_or_default()),
        );
    }
    for reading in readings.iter().filter(|reading| reading.step == number) {
        if !reading.expect.is_empty() {
            let texts = reading.expect.iter().map(text);
            line(out, &format!("must print {}", joined(texts, " and ")));
        }
        if !reading.refuse.is_empty() {
            let texts = reading.refuse.iter().map(text);
            line(
                out,
                &format!("fails if it prints {}", joined(texts, " or ")),
            );
        }
        for saved in &reading.save {
            let Saved { value, find, .. } = saved;
            let (name, kind) = (one_line(&value.name), value.kind.as_str());
            line(out, &format!("saves «{name}» ({kind}), {}", place(find)));
        }
    }
}

fn text(expected: &Expected, values: &Values) -> String {
    match expected {
        Expected::Glob(parts) => {
            let parts: Vec<Word> = parts.iter().map(|part| filled(part, values)).collect();
            format!("\"{}\"", glob(&parts))
        }
        Expected::Regex(regex) => format!("the pattern {}", argument_text(regex)),
    }
}

/// A word with the values that are known; what is not is a blank.
fn filled(word: &Word, values: &Values) -> Word {
    let each = word.pieces.iter().map(|piece| match piece {
        Piece::Name(name) => match values.get(name) {
            Some(value) => Piece::Text(value.to_string()),
            None => piece.clone(),
        },
        Piece::Text(_) => piece.clone(),
    });
    Word {
        pieces: each.collect(),
    }
}

fn place(find: &Find) -> String {
    match find {
        Find::All(Source::Stdout) => "all of its output".to_owned(),
        Find::All(Source::Stderr) => "all of its standard error".to_owned(),
        Find::Column(name) => format!("the column {} of the first row", argument_text(name)),
        Find::ExitCode => "its exit code".to_owned(),
        Find::Json(pointer) => format!("at {} of its JSON", argument_text(pointer)),
        Find::Regex { from, pattern } => {
            let stream = match from {
                Source::Stdout => "",
                Source::Stderr => " from standard error",
            };
            format!("by {}{stream}", argument_text(pattern))
        }
    }
}
