//! A tokenizer for MySQL's SQL: enough to find clauses, names and literals without being misled by what is inside strings.
//!
//! It follows the lexical rules of the server (<https://dev.mysql.com/doc/refman/8.4/en/language-structure.html>). With its default
//! `sql_mode`, `"…"` is a string and backslashes escape; [`Grammar`] says otherwise. It never panics; every byte of the text is in exactly one
//! token of [`tokenize_all`].

use thiserror::Error;

/// What `sql_mode` says of quotes and backslashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Grammar {
    /// `ANSI_QUOTES`: `"…"` is a name.
    pub ansi_quotes: bool,
    /// `NO_BACKSLASH_ESCAPES`: a backslash is a character like others.
    pub no_backslash_escapes: bool,
}

impl Grammar {
    /// All there are, the default one first.
    pub const ALL: [Grammar; 4] = [
        Grammar { ansi_quotes: false, no_backslash_escapes: false },
        Grammar { ansi_quotes: true, no_backslash_escapes: false },
        Grammar { ansi_quotes: false, no_backslash_escapes: true },
        Grammar { ansi_quotes: true, no_backslash_escapes: true },
    ];
}

/// A piece of the source, in bytes; always on character boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The text of this span.
    pub fn of<'a>(&self, source: &'a str) -> &'a str {
        source.get(self.start..self.end).unwrap_or_default()
    }
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// An unquoted name or keyword, a character set introducer (`_utf8mb4`) included.
    Word,
    /// A name in backticks, or in double quotes where the grammar says so.
    QuotedName,
    /// `'…'`, `"…"` or `N'…'`.
    String,
    /// `X'…'`, `0x…`, `B'…'` or `0b…`.
    Bits,
    /// An integer, decimal or float, without its sign.
    Number,
    /// An operator or punctuation mark, the longest that fits.
    Symbol,
    /// The `/*!` or `/*!80016` that opens text only MySQL executes; what is inside are tokens of their own.
    ExecutableOpen,
    /// The `*/` that ends it.
    ExecutableClose,
    /// An optimizer hint, `/*+ … */`, whole.
    Hint,
    /// `-- …`, `# …` or `/* … */`.
    Comment,
    /// Blank characters.
    Space,
}

/// One token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it is.
    pub span: Span,
    /// Whether a backslash in it escapes.
    pub escapes: bool,
}

impl Token {
    /// The token as written.
    pub fn text<'a>(&self, source: &'a str) -> &'a str {
        self.span.of(source)
    }

    /// Whether this is the unquoted word, in any case.
    pub fn is_word(&self, source: &str, word: &str) -> bool {
        self.kind == TokenKind::Word && self.text(source).eq_ignore_ascii_case(word)
    }

    /// Whether this is the symbol.
    pub fn is_symbol(&self, source: &str, symbol: &str) -> bool {
        self.kind == TokenKind::Symbol && self.text(source) == symbol
    }

    /// The name this token stands for, unquoted; `None` if it cannot be a name.
    pub fn name(&self, source: &str) -> Option<String> {
        let text = self.text(source);
        match self.kind {
            TokenKind::Word => Some(text.to_owned()),
            TokenKind::QuotedName => {
                let quote = text.chars().next()?;
                Some(text.strip_prefix(quote)?.strip_suffix(quote)?.replace(&format!("{quote}{quote}"), &quote.to_string()))
            }
            _ => None,
        }
    }

    /// The value of a string token, its escapes resolved; `None` for other tokens.
    pub fn string_value(&self, source: &str) -> Option<String> {
        if self.kind != TokenKind::String {
            return None;
        }
        let text = self.text(source);
        let text = text.strip_prefix(['n', 'N']).unwrap_or(text);
        let quote = text.chars().next()?;
        let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
        let mut out = String::with_capacity(inner.len());
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            if c == quote {
                // A doubled quote: the second one is what is meant.
                out.extend(chars.next());
            } else if c == '\\' && self.escapes {
                match chars.next() {
                    Some('0') => out.push('\0'),
                    Some('b') => out.push('\u{8}'),
                    Some('n') => out.push('\n'),
                    Some('r') => out.push('\r'),
                    Some('t') => out.push('\t'),
                    Some('Z') => out.push('\u{1a}'),
                    other => out.extend(other),
                }
            } else {
                out.push(c);
            }
        }
        Some(out)
    }
}

/// What cannot be a token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// A quote, backtick or comment that is never closed.
    #[error("the {what} that begins at character {position} is not closed")]
    Unclosed {
        /// `string`, `quoted name` or `comment`.
        what: &'static str,
        /// Where it begins, in characters from 1.
        position: usize,
    },
    /// A character that begins nothing.
    #[error("unexpected character {character:?} at character {position}")]
    Unexpected {
        character: char,
        /// Where it is, in characters from 1.
        position: usize,
    },
    /// `X'…'` or `B'…'` with something else than digits.
    #[error("the hexadecimal or bit literal at character {position} is malformed")]
    BadBits {
        /// Where it begins, in characters from 1.
        position: usize,
    },
}

/// All tokens but blanks and comments, by the default grammar.
pub fn tokenize(source: &str) -> Result<Vec<Token>, TokenError> {
    tokenize_as(source, Grammar::default())
}

/// All tokens but blanks and comments.
pub fn tokenize_as(source: &str, grammar: Grammar) -> Result<Vec<Token>, TokenError> {
    let mut tokens = tokenize_all(source, grammar)?;
    tokens.retain(|t| !matches!(t.kind, TokenKind::Space | TokenKind::Comment));
    Ok(tokens)
}

/// All tokens; their spans follow each other and cover the text.
fn tokenize_all(source: &str, grammar: Grammar) -> Result<Vec<Token>, TokenError> {
    let mut lexer = Lexer { source, grammar, at: 0, in_executable: false, after_name: false };
    let mut tokens = Vec::new();
    while lexer.at < source.len() {
        let start = lexer.at;
        let kind = lexer.next_kind()?;
        lexer.after_name = match kind {
            TokenKind::Word | TokenKind::QuotedName => true,
            TokenKind::Space | TokenKind::Comment => lexer.after_name,
            _ => false,
        };
        tokens.push(Token { kind, span: Span { start, end: lexer.at }, escapes: !grammar.no_backslash_escapes });
    }
    if lexer.in_executable {
        // A `*/` inside a string does not close it.
        let open = tokens.iter().rfind(|t| t.kind == TokenKind::ExecutableOpen).map_or(0, |t| t.span.start);
        return Err(TokenError::Unclosed { what: "comment", position: character_position(source, open) });
    }
    Ok(tokens)
}

/// Characters from 1 up to a byte offset, for messages.
pub(super) fn character_position(source: &str, offset: usize) -> usize {
    source.char_indices().take_while(|(i, _)| *i < offset).count() + 1
}

struct Lexer<'a> {
    source: &'a str,
    grammar: Grammar,
    at: usize,
    in_executable: bool,
    /// Whether a `.` would qualify a name, so that `.5` is not a number.
    after_name: bool,
}

/// Longest first.
const SYMBOLS: [&str; 12] = ["->>", "<=>", "->", "<<", ">>", "<=", ">=", "<>", "!=", "||", "&&", ":="];

/// Unquoted names: ASCII letters and digits, `$`, `_`, and the Basic Multilingual Plane above ASCII.
fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '$' || c == '_' || ('\u{80}'..='\u{ffff}').contains(&c)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|c| !wanted(c)).unwrap_or(rest.len());
    }

    fn position(&self) -> usize {
        character_position(self.source, self.at)
    }

    /// Moves past the next token, which exists, and says what it is.
    fn next_kind(&mut self) -> Result<TokenKind, TokenError> {
        let rest = self.rest();
        let mut chars = rest.chars();
        let (first, second, third) = (chars.next().unwrap_or('\0'), chars.next(), chars.next());
        match first {
            c if is_blank(c) => {
                self.skip_while(is_blank);
                Ok(TokenKind::Space)
            }
            '#' => Ok(self.line_comment()),
            // `--` begins a comment only before a blank, a control character or the end: 5--3 is 8.
            '-' if second == Some('-') && third.is_none_or(|c| is_blank(c) || c.is_control()) => Ok(self.line_comment()),
            '/' if second == Some('*') => self.block_comment(third),
            '*' if second == Some('/') && self.in_executable => {
                self.in_executable = false;
                self.at += 2;
                Ok(TokenKind::ExecutableClose)
            }
            '`' => self.quoted('`', "quoted name").map(|()| TokenKind::QuotedName),
            '"' if self.grammar.ansi_quotes => self.quoted('"', "quoted name").map(|()| TokenKind::QuotedName),
            '\'' | '"' => self.quoted(first, "string").map(|()| TokenKind::String),
            'n' | 'N' if second == Some('\'') => {
                self.at += 1;
                self.quoted('\'', "string").map(|()| TokenKind::String)
            }
            'x' | 'X' | 'b' | 'B' if second == Some('\'') => self.quoted_bits(first),
            c if c.is_ascii_digit() => Ok(self.number_or_word()),
            '.' if second.is_some_and(|c| c.is_ascii_digit()) && !self.after_name => {
                self.at += 1;
                self.skip_while(|c| c.is_ascii_digit());
                self.exponent();
                Ok(TokenKind::Number)
            }
            c if is_name_character(c) => {
                self.skip_while(is_name_character);
                Ok(TokenKind::Word)
            }
            c if c.is_ascii_punctuation() && c != '\\' => {
                let length = SYMBOLS.iter().find(|s| rest.starts_with(**s)).map_or(1, |s| s.len());
                self.at += length;
                Ok(TokenKind::Symbol)
            }
            character => Err(TokenError::Unexpected { character, position: self.position() }),
        }
    }

    fn line_comment(&mut self) -> TokenKind {
        self.skip_while(|c| c != '\n');
        TokenKind::Comment
    }

    fn block_comment(&mut self, third: Option<char>) -> Result<TokenKind, TokenError> {
        if third == Some('!') && !self.in_executable {
            // The version, five or six digits, belongs to the opener.
            let rest = self.rest();
            let digits = rest.chars().skip(3).take(6).take_while(char::is_ascii_digit).count();
            let closed = rest.contains("*/");
            if !closed {
                return Err(TokenError::Unclosed { what: "comment", position: self.position() });
            }
            self.at += 3 + if digits >= 5 { digits } else { 0 };
            self.in_executable = true;
            return Ok(TokenKind::ExecutableOpen);
        }
        let rest = self.rest();
        let Some(end) = rest.get(2..).and_then(|r| r.find("*/")) else {
            return Err(TokenError::Unclosed { what: "comment", position: self.position() });
        };
        self.at += 2 + end + 2;
        Ok(if third == Some('+') { TokenKind::Hint } else { TokenKind::Comment })
    }

    /// From the opening quote to behind the closing one.
    fn quoted(&mut self, quote: char, what: &'static str) -> Result<(), TokenError> {
        let name = quote == '`' || quote == '"' && self.grammar.ansi_quotes;
        let escapes = !name && !self.grammar.no_backslash_escapes;
        let rest = self.rest();
        let mut chars = rest.char_indices().skip(1).peekable();
        while let Some((i, c)) = chars.next() {
            if c == '\\' && escapes {
                chars.next();
            } else if c == quote {
                if chars.peek().is_some_and(|(_, next)| *next == quote) {
                    chars.next();
                } else {
                    self.at += i + 1;
                    return Ok(());
                }
            }
        }
        Err(TokenError::Unclosed { what, position: self.position() })
    }

    fn quoted_bits(&mut self, prefix: char) -> Result<TokenKind, TokenError> {
        let rest = self.rest();
        let bad = TokenError::BadBits { position: self.position() };
        let body = rest.get(2..).unwrap_or_default();
        let end = body.find('\'').ok_or_else(|| bad.clone())?;
        let digits = body.get(..end).unwrap_or_default();
        let hexadecimal = prefix.eq_ignore_ascii_case(&'x');
        let right = if hexadecimal {
            digits.len() % 2 == 0 && digits.bytes().all(|b| b.is_ascii_hexdigit())
        } else {
            digits.bytes().all(|b| matches!(b, b'0' | b'1'))
        };
        if !right {
            return Err(bad);
        }
        self.at += 2 + end + 1;
        Ok(TokenKind::Bits)
    }

    /// `1`, `1.5`, `1e5`, `0xFF`, `0b1`, or a name that begins with digits such as `1a`.
    fn number_or_word(&mut self) -> TokenKind {
        let rest = self.rest();
        let run = rest.find(|c| !is_name_character(c)).unwrap_or(rest.len());
        let word = rest.get(..run).unwrap_or_default();
        let prefixed = |prefix: &str, digit: fn(&u8) -> bool| {
            word.strip_prefix(prefix).is_some_and(|d| !d.is_empty() && d.as_bytes().iter().all(digit))
        };
        if prefixed("0x", u8::is_ascii_hexdigit) || prefixed("0b", |b| matches!(b, b'0' | b'1')) {
            self.at += run;
            return TokenKind::Bits;
        }
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        if digits == run {
            self.at += digits;
            if self.peek() == Some('.') && !self.after_name {
                self.at += 1;
                self.skip_while(|c| c.is_ascii_digit());
                self.exponent();
            }
            return TokenKind::Number;
        }
        let start = self.at;
        self.at += digits;
        if self.exponent() && self.peek().is_none_or(|c| !is_name_character(c)) {
            return TokenKind::Number;
        }
        self.at = start + run;
        TokenKind::Word
    }

    /// Moves past `e5`, `E+5`, `e-5`; whether there was one.
    fn exponent(&mut self) -> bool {
        let bytes = self.rest().as_bytes();
        if !bytes.first().is_some_and(|b| b.eq_ignore_ascii_case(&b'e')) {
            return false;
        }
        let sign = usize::from(bytes.get(1).is_some_and(|b| matches!(b, b'+' | b'-')));
        let digits = bytes.iter().skip(1 + sign).take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return false;
        }
        self.at += 1 + sign + digits;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TokenKind::*;
    use proptest::prelude::*;

    #[test]
    fn kinds() {
        for (source, expected) in [
            (
                "a $b _c é1 1a 1e 1e5x",
                vec![(Word, "a"), (Word, "$b"), (Word, "_c"), (Word, "é1"), (Word, "1a"), (Word, "1e"), (Word, "1e5x")],
            ),
            ("`a``b` `x y`", vec![(QuotedName, "`a``b`"), (QuotedName, "`x y`")]),
            (r"'a''b' 'c\'d' 'e\\'", vec![(String, "'a''b'"), (String, r"'c\'d'"), (String, r"'e\\'")]),
            (r#""a""b;--" N'x' n'y'"#, vec![(String, r#""a""b;--""#), (String, "N'x'"), (String, "n'y'")]),
            ("_utf8mb4'x' _latin1 X'61'", vec![(Word, "_utf8mb4"), (String, "'x'"), (Word, "_latin1"), (Bits, "X'61'")]),
            ("0xAb b'01' 0b1 0xg 0x", vec![(Bits, "0xAb"), (Bits, "b'01'"), (Bits, "0b1"), (Word, "0xg"), (Word, "0x")]),
            (
                "1 1.5 .5 1e5 1E-5 1.",
                vec![(Number, "1"), (Number, "1.5"), (Number, ".5"), (Number, "1e5"), (Number, "1E-5"), (Number, "1.")],
            ),
            ("t.5a a.`b`", vec![(Word, "t"), (Symbol, "."), (Word, "5a"), (Word, "a"), (Symbol, "."), (QuotedName, "`b`")]),
            ("5--3", vec![(Number, "5"), (Symbol, "-"), (Symbol, "-"), (Number, "3")]),
            ("a -- b\nc # d\ne /* f, */ g --", vec![(Word, "a"), (Word, "c"), (Word, "e"), (Word, "g")]),
            ("a->>'$.b' <=> 1", vec![(Word, "a"), (Symbol, "->>"), (String, "'$.b'"), (Symbol, "<=>"), (Number, "1")]),
            ("/*!80016 x */ y", vec![(ExecutableOpen, "/*!80016"), (Word, "x"), (ExecutableClose, "*/"), (Word, "y")]),
            ("/*! x*/", vec![(ExecutableOpen, "/*!"), (Word, "x"), (ExecutableClose, "*/")]),
            ("/*+ hint */ a*b", vec![(Hint, "/*+ hint */"), (Word, "a"), (Symbol, "*"), (Word, "b")]),
        ] {
            let tokens = tokenize(source).unwrap_or_else(|e| panic!("{source}: {e}"));
            let seen: Vec<_> = tokens.iter().map(|t| (t.kind, t.text(source))).collect();
            assert_eq!(seen, expected, "{source}");
        }
    }

    #[test]
    fn errors_say_where() {
        for (source, message) in [
            ("é 'abc", "the string that begins at character 3 is not closed"),
            ("`abc", "the quoted name that begins at character 1 is not closed"),
            ("a /* b", "the comment that begins at character 3 is not closed"),
            ("a /*!80016 b", "the comment that begins at character 3 is not closed"),
            ("X'6'", "the hexadecimal or bit literal at character 1 is malformed"),
            ("b'2'", "the hexadecimal or bit literal at character 1 is malformed"),
            ("a \\ b", "unexpected character '\\\\' at character 3"),
            ("a 😀", "unexpected character '😀' at character 3"),
        ] {
            assert_eq!(tokenize(source).map_err(|e| e.to_string()), Err(message.to_owned()), "{source}");
        }
    }

    #[test]
    fn values() {
        for (source, value) in [("'a''b'", "a'b"), (r"'a\n\'\%'", "a\n'%"), (r#""a""b""#, "a\"b"), ("N'x'", "x"), ("''", "")] {
            assert_eq!(tokenize(source).unwrap()[0].string_value(source).as_deref(), Some(value));
        }
    }

    #[test]
    fn the_grammar_says_what_quotes_and_backslashes_are() {
        let [_, ansi, raw, both] = Grammar::ALL;
        let one = |source: &str, grammar| tokenize_as(source, grammar).map(|t| t[0]);
        assert_eq!(one(r#""a""b`""#, ansi).unwrap().name(r#""a""b`""#).as_deref(), Some("a\"b`"));
        assert_eq!(one(r"'C:\temp\'", raw).unwrap().string_value(r"'C:\temp\'").as_deref(), Some(r"C:\temp\"));
        assert_eq!(one(r"'it''s\'", both).unwrap().string_value(r"'it''s\'").as_deref(), Some(r"it's\"));
        assert!(one(r"'a\'", ansi).is_err(), "a backslash escapes");
    }

    proptest! {
        #[test]
        fn never_panics_and_covers_the_text(source in "\\PC*|[-a-zA-Z0-9`'\"#/*!+.,;()\\\\ \n\u{0}é😀xXbBnN_$@]*") {
            for grammar in Grammar::ALL {
                let Ok(tokens) = tokenize_all(&source, grammar) else { continue };
                let mut at = 0;
                for token in &tokens {
                    prop_assert_eq!(token.span.start, at);
                    prop_assert!(token.span.end > at);
                    at = token.span.end;
                    let _ = (token.name(&source), token.string_value(&source));
                }
                prop_assert_eq!(at, source.len());
            }
        }
    }
}
