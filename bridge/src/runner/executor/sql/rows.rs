//! Rows as people and programs read them: an object of JSON in a line, each value as the server writes it, or null.

use std::io;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, RowDescriptionBody};

/// The columns of what a statement returns, each its name in JSON.
#[derive(Debug, Default)]
pub(super) struct Columns(Vec<String>);

impl Columns {
    /// Those of a description. Names that are there twice get a number, so that no value hides another.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn of(body: &RowDescriptionBody) -> io::Result<Self> {
        let (mut fields, mut names) = (body.fields(), Vec::new());
        while let Some(field) = fields.next()? {
            names.push(field.name().to_owned());
        }
        Self::named(names)
    }

    fn named(names: Vec<String>) -> io::Result<Self> {
        let mut taken: Vec<String> = Vec::new();
        for name in names {
            let mut own = name.clone();
            let mut number = 2;
            while taken.contains(&own) {
                own = format!("{name}_{number}");
                number += 1;
            }
            taken.push(own);
        }
        let json = taken.iter().map(serde_json::to_string);
        Ok(Self(json.collect::<Result<_, _>>()?))
    }

    /// A row's line.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn line(&self, row: &DataRowBody) -> io::Result<Vec<u8>> {
        let (mut ranges, mut line) = (row.ranges(), vec![b'{']);
        let mut names = self.0.iter();
        while let Some(range) = ranges.next()? {
            let name = names.next().ok_or(io::ErrorKind::InvalidData)?;
            if line.len() > 1 {
                line.push(b',');
            }
            line.extend_from_slice(name.as_bytes());
            line.push(b':');
            match range {
                None => line.extend_from_slice(b"null"),
                Some(range) => {
                    let value = row.buffer().get(range).unwrap_or_default();
                    serde_json::to_writer(&mut line, &String::from_utf8_lossy(value))?;
                }
            }
        }
        line.extend_from_slice(b"}\n");
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_column_hides_another() {
        let names = ["a", "?column?", "a", "a_2", "?column?"].map(str::to_owned);
        let columns = Columns::named(names.into()).unwrap();
        let wanted = [
            "\"a\"",
            "\"?column?\"",
            "\"a_2\"",
            "\"a_2_2\"",
            "\"?column?_2\"",
        ];
        assert_eq!(columns.0, wanted);
    }
}
