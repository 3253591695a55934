//! Messages of PostgreSQL (its manual, 54) on one connection.

use std::io;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{
    CommandCompleteBody, DataRowBody, ErrorFields, Header, Message, RowDescriptionBody,
};
use postgres_protocol::message::frontend;
use steward_shared::limits::TEXT_CHARS_MAX;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::limits::{READ_BYTES, SQL_MESSAGE_BYTES_MAX};

/// What messages are carried by.
pub(super) trait Carrier: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Carrier for T {}

/// One connection.
pub(super) struct Wire {
    carrier: Box<dyn Carrier>,
    unread: BytesMut,
    /// What is sent next.
    pub(super) unsent: BytesMut,
}

impl Wire {
    /// Over this.
    pub(super) fn over(carrier: impl Carrier + 'static) -> Self {
        Self {
            carrier: Box::new(carrier),
            unread: BytesMut::new(),
            unsent: BytesMut::new(),
        }
    }

    /// Sends what is unsent.
    ///
    /// # Errors
    /// When the connection is lost; what of it has arrived nobody knows.
    pub(super) async fn send(&mut self) -> io::Result<()> {
        self.carrier.write_all_buf(&mut self.unsent).await?;
        self.carrier.flush().await
    }

    /// The next message. Given up before it is there, nothing of it is lost.
    ///
    /// # Errors
    /// When the connection is lost, or what comes is no message that can be taken.
    pub(super) async fn receive(&mut self) -> io::Result<Message> {
        loop {
            if let Some(header) = Header::parse(&self.unread)? {
                let length = usize::try_from(header.len()).unwrap_or(usize::MAX);
                if length > SQL_MESSAGE_BYTES_MAX {
                    let most = SQL_MESSAGE_BYTES_MAX >> 20;
                    let why = format!("a row or another message has more than {most} MiB");
                    return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
                }
                if let Some(message) = Message::parse(&mut self.unread)? {
                    return Ok(message);
                }
            }
            self.unread.reserve(READ_BYTES);
            if self.carrier.read_buf(&mut self.unread).await? == 0 {
                let why = "the server has closed the connection";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
            }
        }
    }

    /// Whether more has arrived than was received.
    pub(super) fn has_more(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Says good-bye; the server may be gone.
    pub(super) async fn close(&mut self) {
        self.unsent.clear();
        frontend::terminate(&mut self.unsent);
        drop(self.send().await);
        drop(self.carrier.shutdown().await);
    }
}

/// What a server that has let an account in says of a statement.
pub(super) enum Heard {
    /// What the rows have that follow.
    Columns(RowDescriptionBody),
    /// It wants to take or to give a stream.
    Copy,
    /// A statement is done.
    Done(CommandCompleteBody),
    /// Nothing that matters.
    Nothing,
    /// Something for people.
    Notice(Told),
    /// It takes the next; its word on the transaction.
    Ready(u8),
    /// It says no.
    Refused(Told),
    /// One row.
    Row(DataRowBody),
}

impl Heard {
    /// What a message says.
    pub(super) fn of(message: Message) -> Self {
        match message {
            Message::CommandComplete(body) => Self::Done(body),
            Message::CopyInResponse(_) | Message::CopyOutResponse(_) => Self::Copy,
            Message::DataRow(body) => Self::Row(body),
            Message::ErrorResponse(body) => Self::Refused(Told::of(body.fields())),
            Message::NoticeResponse(body) => Self::Notice(Told::of(body.fields())),
            Message::ReadyForQuery(body) => Self::Ready(body.status()),
            Message::RowDescription(body) => Self::Columns(body),
            Message::AuthenticationCleartextPassword
            | Message::AuthenticationGss
            | Message::AuthenticationKerberosV5
            | Message::AuthenticationMd5Password(_)
            | Message::AuthenticationOk
            | Message::AuthenticationScmCredential
            | Message::AuthenticationSspi
            | Message::AuthenticationGssContinue(_)
            | Message::AuthenticationSasl(_)
            | Message::AuthenticationSaslContinue(_)
            | Message::AuthenticationSaslFinal(_)
            | Message::BackendKeyData(_)
            | Message::BindComplete
            | Message::CloseComplete
            | Message::CopyData(_)
            | Message::CopyDone
            | Message::EmptyQueryResponse
            | Message::NoData
            | Message::NotificationResponse(_)
            | Message::ParameterDescription(_)
            | Message::ParameterStatus(_)
            | Message::ParseComplete
            | Message::PortalSuspended => Self::Nothing,
            _ => Self::Nothing,
        }
    }
}

impl Heard {
    /// The same without the server's words: it repeats values in them, and parts of values.
    pub(super) fn hushed(self) -> Self {
        match self {
            Self::Notice(told) => Self::Notice(told.hushed()),
            Self::Refused(told) => Self::Refused(told.hushed()),
            other @ (Self::Columns(_)
            | Self::Copy
            | Self::Done(_)
            | Self::Nothing
            | Self::Ready(_)
            | Self::Row(_)) => other,
        }
    }
}

/// What a server has told of an error, or besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) severity: String,
    /// Its SQLSTATE.
    pub(super) code: String,
    pub(super) message: String,
    detail: String,
    hint: String,
}

impl Told {
    /// What is told by these fields; words of the server, without anything that is no text.
    pub(super) fn of(mut fields: ErrorFields<'_>) -> Self {
        let mut told = Self::default();
        while let Ok(Some(field)) = fields.next() {
            let value = words(field.value_bytes());
            match field.type_() {
                // In English, whatever the server speaks; older ones do not say it.
                b'V' => told.severity = value,
                b'S' if told.severity.is_empty() => told.severity = value,
                b'C' => told.code = value,
                b'M' => told.message = value,
                b'D' => told.detail = value,
                b'H' => told.hint = value,
                _ => {}
            }
        }
        told
    }

    fn hushed(self) -> Self {
        Self {
            message: "what the server says is left out, because a secret may be in it".to_owned(),
            detail: String::new(),
            hint: String::new(),
            ..self
        }
    }

    /// Whether the connection ends with it.
    pub(super) fn is_fatal(&self) -> bool {
        self.severity != "ERROR"
    }

    /// Its lines.
    pub(super) fn lines(&self) -> String {
        let mut lines = format!("{self}\n");
        for (name, text) in [("DETAIL", &self.detail), ("HINT", &self.hint)] {
            if !text.is_empty() {
                lines.push_str(&format!("{name}: {text}\n"));
            }
        }
        lines
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.code, self.message)
    }
}

/// What a server says, as it can be passed on.
fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let legal = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    legal.take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn message_is_taken_whole_and_never_too_large() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut wire = Wire::over(near);
        far.write_all(b"C\0\0\0\x0bCOM").await.unwrap();
        let given_up = tokio::select! {
            biased;
            _ = wire.receive() => false,
            () = std::future::ready(()) => true,
        };
        assert!(given_up && wire.has_more());
        far.write_all(b"MIT\0").await.unwrap();
        let Message::CommandComplete(body) = wire.receive().await.unwrap() else {
            panic!("another message")
        };
        assert_eq!(body.tag().unwrap(), "COMMIT");
        far.write_all(b"D\x7f\xff\xff\xff").await.unwrap();
        let kind = wire.receive().await.err().map(|error| error.kind());
        assert_eq!(kind, Some(io::ErrorKind::FileTooLarge));
    }
}
