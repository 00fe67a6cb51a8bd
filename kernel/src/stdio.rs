//! Output that nobody may read to its end, as behind `| head`.

use std::io::{ErrorKind, Result, Write};

/// Writes until the other end of a pipe is closed, and drops what comes then: Rust's programs ignore `SIGPIPE`, which
/// ends others, and `print!` panics.
#[derive(Debug)]
pub struct UntilClosed<W>(pub W);

// === impl UntilClosed ===

impl<W: Write> Write for UntilClosed<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(bytes.len()),
            written => written,
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{LineWriter, Read, pipe},
    };

    use super::*;

    #[test]
    fn what_nobody_reads_is_dropped() {
        let (mut reader, writer) = pipe().unwrap();
        let mut out = UntilClosed(LineWriter::new(writer));
        writeln!(out, "read").unwrap();
        let mut read = [0; 5];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"read\n");
        drop(reader);
        for _ in 0..3 {
            writeln!(out, "unread").unwrap();
            out.flush().unwrap();
        }
    }

    #[test]
    fn other_trouble_is_told() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        assert!(writeln!(UntilClosed(full), "lost").is_err());
    }
}
