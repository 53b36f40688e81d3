//! What is wrong with a text that should be JSON, in the words of Go's decoder: callers of the peer know
//! them and tests compare them.

/// Nesting that is followed before giving up: what the decoder after this scanner follows, and little enough for
/// the stack of any thread. No kind needs a tenth of it.
const MAX_DEPTH: usize = 127;

/// The first syntax error of a text; `None` when there is none.
pub(crate) fn error(text: &[u8]) -> Option<String> {
    let mut scanner = Scanner { text, at: 0, depth: 0 };
    scanner.value().and_then(|()| scanner.end()).err()
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Result<u8, String> {
        self.text.get(self.at).copied().ok_or_else(|| "unexpected end of JSON input".to_owned())
    }

    /// The next character after white space.
    fn token(&mut self) -> Result<u8, String> {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.peek()
    }

    fn unexpected<T>(&self, context: &str) -> Result<T, String> {
        let c = match self.peek()? {
            b'\'' => r"'\''".to_owned(),
            b'"' => r#"'"'"#.to_owned(),
            c if c.is_ascii_graphic() || c == b' ' => format!("'{}'", char::from(c)),
            b'\n' => r"'\n'".to_owned(),
            b'\r' => r"'\r'".to_owned(),
            b'\t' => r"'\t'".to_owned(),
            c if c < 0x80 => format!(r"'\x{c:02x}'"),
            // Go shows a byte as the Latin-1 character of that number.
            c => format!("'{}'", char::from(c)),
        };
        Err(format!("invalid character {c} {context}"))
    }

    fn end(&mut self) -> Result<(), String> {
        if self.token().is_ok() {
            return self.unexpected("after top-level value");
        }
        Ok(())
    }

    fn value(&mut self) -> Result<(), String> {
        match self.token()? {
            b'{' => self.nested(Self::object),
            b'[' => self.nested(Self::array),
            b'"' => self.string(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => self.unexpected("looking for beginning of value"),
        }
    }

    fn nested(&mut self, inner: fn(&mut Self) -> Result<(), String>) -> Result<(), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("exceeded max depth".into());
        }
        self.at += 1;
        let done = inner(self);
        self.depth -= 1;
        done
    }

    fn object(&mut self) -> Result<(), String> {
        if self.token()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.token()? != b'"' {
                return self.unexpected("looking for beginning of object key string");
            }
            self.string()?;
            if self.token()? != b':' {
                return self.unexpected("after object key");
            }
            self.at += 1;
            self.value()?;
            match self.token()? {
                b',' => self.at += 1,
                b'}' => break,
                _ => return self.unexpected("after object key:value pair"),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn array(&mut self) -> Result<(), String> {
        if self.token()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value()?;
            match self.token()? {
                b',' => self.at += 1,
                b']' => break,
                _ => return self.unexpected("after array element"),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), String> {
        loop {
            self.at += 1;
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    self.at += 1;
                    self.escape()?;
                }
                c if c < 0x20 => return self.unexpected("in string literal"),
                _ => {}
            }
        }
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        match self.peek()? {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => Ok(()),
            b'u' => {
                for _ in 0..4 {
                    self.at += 1;
                    if !self.peek()?.is_ascii_hexdigit() {
                        return self.unexpected(r"in \u hexadecimal character escape");
                    }
                }
                Ok(())
            }
            _ => self.unexpected("in string escape code"),
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), String> {
        for expected in word.bytes() {
            if self.peek()? != expected {
                return self.unexpected(&format!("in literal {word} (expecting '{}')", char::from(expected)));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), String> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.peek() == Ok(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Ok(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek()?, b'+' | b'-') {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn digits(&mut self, context: &str) -> Result<(), String> {
        if !self.peek()?.is_ascii_digit() {
            return self.unexpected(context);
        }
        while self.peek().is_ok_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_in_the_words_of_go() {
        for (text, want) in [
            ("{,\n}", "invalid character ',' looking for beginning of object key string"),
            ("", "unexpected end of JSON input"),
            ("{\"a\"", "unexpected end of JSON input"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("type: Mesh", "invalid character 'y' in literal true (expecting 'r')"),
            ("name", "invalid character 'a' in literal null (expecting 'u')"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("%", "invalid character '%' looking for beginning of value"),
        ] {
            assert_eq!(error(text.as_bytes()).as_deref(), Some(want), "{text}");
        }
    }

    #[test]
    fn what_is_json_has_no_error() {
        for text in ["{}", " [1, -0.5e+3, \"\\u00e9\\\"\", true, false, null, {\"a\": [[]]}] \n"] {
            assert_eq!(error(text.as_bytes()), None, "{text}");
        }
    }
}
