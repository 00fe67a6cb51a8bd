//! Errors of libraries in one line.

use std::error::Error;

/// An error and what caused it, each said once.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl std::fmt::Display for Layer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            let below = self.1.as_deref();
            below.map(|it| it as _)
        }
    }

    #[test]
    fn each_is_said_once() {
        let refused = Layer("connection refused", None);
        let again = Layer("connection refused", Some(Box::new(refused)));
        let outer = Layer("send", Some(Box::new(again)));
        assert_eq!(with_causes(&outer), "send: connection refused");
        assert_eq!(with_causes(&io::Error::other("alone")), "alone");
    }
}
