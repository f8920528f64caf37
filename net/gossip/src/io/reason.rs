//! An error and its causes in one line: libp2p's own texts are often empty or say only that it failed.

use std::error::Error;

pub(crate) fn reason(error: &dyn Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        // A wrapper that repeats its cause adds nothing.
        if !text.is_empty() && parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("")]
    struct Empty(#[source] std::io::Error);

    #[test]
    fn an_empty_wrapper_is_passed_over() {
        let error = Empty(std::io::Error::from(std::io::ErrorKind::AddrInUse));
        assert_eq!(reason(&error), "address in use");
    }
}
