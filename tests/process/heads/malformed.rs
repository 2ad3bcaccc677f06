//! Messages that two readers could delimit or read differently, by what is wrong with them. It is long because each is one
//! line of a table.

/// One message that is refused, and with what.
pub struct Case {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub status: u16,
    pub reason: &'static str,
}

const GOOD: &str = "Host: {H}\r\nAuthorization: Bearer {T}\r\n";

/// Every head, in the order of the tables.
pub fn heads() -> Vec<Case> {
    let mut all = lengths();
    all.extend(codings());
    all.extend(lines());
    all.extend(request_lines());
    all
}

/// A request with these lines (each with its own end), and then this body.
fn with(name: &'static str, lines: &str, body: &str, status: u16) -> Case {
    case(
        name,
        format!("POST /crm/x/case-{{N}} HTTP/1.1\r\n{GOOD}{lines}\r\n{body}").as_bytes(),
        status,
    )
}

fn case(name: &'static str, bytes: &[u8], status: u16) -> Case {
    Case {
        name,
        bytes: bytes.to_vec(),
        status,
        reason: "request_malformed",
    }
}

/// A request line of its own.
fn line(name: &'static str, line: &str, status: u16) -> Case {
    case(name, format!("{line}\r\n{GOOD}\r\n").as_bytes(), status)
}

/// A target that hyper reads otherwise than it stands there, or not at all.
fn target(name: &'static str, target: &str) -> Case {
    Case {
        reason: "target_ambiguous",
        ..line(name, &format!("GET {target} HTTP/1.1"), 400)
    }
}

/// A chunked body.
fn chunks(name: &'static str, body: &str) -> Case {
    with(name, "Transfer-Encoding: chunked\r\n", body, 400)
}

fn lengths() -> Vec<Case> {
    let two = |name, lines: &str| with(name, lines, "hello", 400);
    vec![
        two(
            "length and chunked",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ),
        two(
            "chunked and length",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        ),
        with(
            "length nought and chunked",
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
            400,
        ),
        with(
            "length and chunked in other letters",
            "content-LENGTH: 6\r\ntransfer-ENCODING: Chunked\r\n",
            "0\r\n\r\nX",
            400,
        ),
        two(
            "length twice, equal",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
        ),
        two(
            "length twice, unequal",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
        ),
        two(
            "length twice, nought first",
            "Content-Length: 0\r\nContent-Length: 5\r\n",
        ),
        two("a list of lengths", "Content-Length: 5, 5\r\n"),
        two("a list of unequal lengths", "Content-Length: 5,6\r\n"),
        two("a length and a comma", "Content-Length: 5,\r\n"),
        two("no length", "Content-Length:\r\n"),
        two("a blank length", "Content-Length:  \t\r\n"),
        two("a plus", "Content-Length: +5\r\n"),
        two("a minus", "Content-Length: -5\r\n"),
        two("minus nought", "Content-Length: -0\r\n"),
        two("a space within", "Content-Length: 5 5\r\n"),
        two("hexadecimal", "Content-Length: 0x5\r\n"),
        two("a hexadecimal digit", "Content-Length: a\r\n"),
        two("a decimal point", "Content-Length: 5.0\r\n"),
        two("an exponent", "Content-Length: 5e0\r\n"),
        two("an underscore", "Content-Length: 1_0\r\n"),
        two("a quoted length", "Content-Length: \"5\"\r\n"),
        two(
            "a length beyond 64 bits",
            "Content-Length: 18446744073709551621\r\n",
        ),
        two(
            "a length of 64 bits",
            "Content-Length: 18446744073709551615\r\n",
        ),
        two(
            "a length that wraps round to five",
            "Content-Length: 340282366920938463463374607431768211461\r\n",
        ),
        two("a length with a parameter", "Content-Length: 5;x=1\r\n"),
        case(
            "a length in other digits",
            format!(
                "POST /crm/x/case-{{N}} HTTP/1.1\r\n{GOOD}Content-Length: \u{0665}\r\n\r\nhello"
            )
            .as_bytes(),
            400,
        ),
        two(
            "a vertical tab before the length",
            "Content-Length: \x0b5\r\n",
        ),
    ]
}

fn codings() -> Vec<Case> {
    let coded = |name, value: &str, status| {
        with(
            name,
            &format!("Transfer-Encoding: {value}\r\n"),
            "0\r\n\r\n",
            status,
        )
    };
    vec![
        coded("a comma before chunked", ",chunked", 400),
        coded("a comma behind chunked", "chunked,", 400),
        coded("only a comma", ",", 400),
        coded("nothing", "", 400),
        coded("chunked twice", "chunked, chunked", 400),
        with("chunked on two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", 400),
        with("chunked and identity on two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n", 400),
        with("gzip and chunked on two lines", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", 400),
        with("nothing and chunked on two lines", "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", 400),
        coded("gzip, then chunked", "gzip, chunked", 501),
        coded("identity, then chunked", "identity, chunked", 501),
        coded("an unknown one, then chunked", "x, chunked", 501),
        coded("chunked, then gzip", "chunked, gzip", 400),
        coded("chunked, then identity", "chunked, identity", 400),
        coded("gzip alone", "gzip", 400),
        coded("identity alone", "identity", 400),
        coded("something that begins so", "chunkedx", 400),
        coded("something that ends so", "xchunked", 400),
        coded("quoted", "\"chunked\"", 400),
        coded("in single quotes", "'chunked'", 400),
        coded("a parameter", "chunked;q=1", 400),
        coded("a semicolon", "chunked;", 400),
        coded("two words", "chunked chunked", 400),
        coded("two words, unequal", "x chunked", 400),
        coded("a vertical tab before it", "\x0bchunked", 400),
        coded("a form feed behind it", "chunked\x0c", 400),
        coded("a no-break space behind it", "chunked\u{a0}", 400),
        coded("the Kelvin sign", "chun\u{212a}ed", 400),
        case("chunked to HTTP/1.0", format!("POST /crm/x/case-{{N}} HTTP/1.0\r\n{GOOD}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n").as_bytes(), 400),
        case("chunked to HTTP/1.0 that stays", format!("POST /crm/x/case-{{N}} HTTP/1.0\r\nConnection: keep-alive\r\n{GOOD}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n").as_bytes(), 400),
    ]
}

fn lines() -> Vec<Case> {
    let field = |name, line: &str| with(name, line, "", 400);
    let start = "POST /crm/x/case-{N} HTTP/1.1";
    vec![
        case(
            "every line ends in LF",
            format!("{start}\nHost: {{H}}\nAuthorization: Bearer {{T}}\n\n").as_bytes(),
            400,
        ),
        case(
            "the request line ends in LF",
            format!("{start}\n{GOOD}\r\n").as_bytes(),
            400,
        ),
        case(
            "a field ends in LF",
            format!("{start}\r\n{GOOD}X: 1\nY: 2\r\n\r\n").as_bytes(),
            400,
        ),
        case(
            "the head ends in LF",
            format!("{start}\r\n{GOOD}\n").as_bytes(),
            400,
        ),
        case(
            "the head ends in LF CR LF",
            format!("{start}\r\n{GOOD}X: 1\n\r\n").as_bytes(),
            400,
        ),
        case(
            "the head ends in CR CR LF",
            format!("{start}\r\n{GOOD}\r\r\n").as_bytes(),
            400,
        ),
        case(
            "a field ends in CR",
            format!("{start}\r\n{GOOD}X: 1\rContent-Length: 5\r\n\r\n").as_bytes(),
            400,
        ),
        case(
            "a CR in a value",
            format!("{start}\r\n{GOOD}X: a\rb\r\n\r\n").as_bytes(),
            400,
        ),
        case(
            "a CR before CR LF",
            format!("{start}\r\n{GOOD}X: a\r\r\n\r\n").as_bytes(),
            400,
        ),
        case(
            "a CR in a name",
            format!("{start}\r\n{GOOD}X\rY: a\r\n\r\n").as_bytes(),
            400,
        ),
        case(
            "a CR in the request line",
            format!("POST\r/crm/x/case-{{N}} HTTP/1.1\r\n{GOOD}\r\n").as_bytes(),
            400,
        ),
        case(
            "a CR behind the version",
            format!("{start}\r\r\n{GOOD}\r\n").as_bytes(),
            400,
        ),
        field("a folded line", "X: a\r\n b\r\n"),
        field("a line folded by a tab", "X: a\r\n\tb\r\n"),
        field("a folded length", "Content-Length:\r\n 5\r\n"),
        field("a folded coding", "Transfer-Encoding:\r\n chunked\r\n"),
        case(
            "a space before the first field",
            format!("{start}\r\n {GOOD}\r\n").as_bytes(),
            400,
        ),
        case(
            "a line of blanks first",
            format!("{start}\r\n \r\n{GOOD}\r\n").as_bytes(),
            400,
        ),
        case(
            "a tab before the first field",
            format!("{start}\r\n\t{GOOD}\r\n").as_bytes(),
            400,
        ),
        field("NUL in a value", "X: a\0b\r\n"),
        field("NUL in a name", "X\0: a\r\n"),
        field("NUL behind a length", "Content-Length: 5\0\r\n"),
        field("a control character in a value", "X: a\x01b\r\n"),
        field("a backspace in a value", "X: a\x08b\r\n"),
        field("DEL in a value", "X: a\x7fb\r\n"),
        field("a vertical tab in a value", "X: a\x0bb\r\n"),
        field("an escape in a value", "X: \x1b[2J\r\n"),
        field("a space before the colon", "Content-Length : 5\r\n"),
        field("a tab before the colon", "Transfer-Encoding\t: chunked\r\n"),
        field(
            "a vertical tab before the colon",
            "Transfer-Encoding\x0b: chunked\r\n",
        ),
        field("a space in a name", "Content Length: 5\r\n"),
        field("no name", ": 5\r\n"),
        field("no colon", "Content-Length 5\r\n"),
        field("only a name", "X\r\n"),
        field("a name in brackets", "(x): 1\r\n"),
        field("a name with a slash", "x/y: 1\r\n"),
        field("a name in quotes", "\"x\": 1\r\n"),
        field("a name beyond ASCII", "Content\u{2010}Length: 5\r\n"),
        field("a name with an at sign", "x@y: 1\r\n"),
        field("a name with a comma", "x,y: 1\r\n"),
        field("a name with a semicolon", "x;y: 1\r\n"),
        field("a name with braces", "{x}: 1\r\n"),
    ]
}

fn request_lines() -> Vec<Case> {
    let x = "/crm/x/case-{N}";
    vec![
        line(
            "two spaces before the target",
            &format!("POST  {x} HTTP/1.1"),
            400,
        ),
        line(
            "two spaces before the version",
            &format!("POST {x}  HTTP/1.1"),
            400,
        ),
        line(
            "a space behind the version",
            &format!("POST {x} HTTP/1.1 "),
            400,
        ),
        line(
            "a space before the method",
            &format!(" POST {x} HTTP/1.1"),
            400,
        ),
        line("a tab for a space", &format!("POST\t{x} HTTP/1.1"), 400),
        line(
            "a tab before the version",
            &format!("POST {x}\tHTTP/1.1"),
            400,
        ),
        line(
            "a space in the target",
            &format!("POST {x} y HTTP/1.1"),
            400,
        ),
        line(
            "a version within the target",
            &format!("POST {x} HTTP/1.1 HTTP/1.1"),
            400,
        ),
        line(
            "a vertical tab for a space",
            &format!("POST {x}\x0bHTTP/1.1"),
            400,
        ),
        line("no version", &format!("GET {x}"), 400),
        line("no version and a space", &format!("GET {x} "), 400),
        line("no target", "GET HTTP/1.1", 400),
        line("only a method", "GET", 400),
        line("version 0.9", &format!("GET {x} HTTP/0.9"), 505),
        line("version 1.2", &format!("GET {x} HTTP/1.2"), 505),
        line("version 1.9", &format!("GET {x} HTTP/1.9"), 505),
        line("version 2.0", &format!("GET {x} HTTP/2.0"), 505),
        line("version 3.0", &format!("GET {x} HTTP/3.0"), 505),
        line("version 1.10", &format!("GET {x} HTTP/1.10"), 400),
        line("version 01.1", &format!("GET {x} HTTP/01.1"), 400),
        line("version 1", &format!("GET {x} HTTP/1"), 400),
        line("version 1.", &format!("GET {x} HTTP/1."), 400),
        line("version 1,1", &format!("GET {x} HTTP/1,1"), 400),
        line("version +1.1", &format!("GET {x} HTTP/+1.1"), 400),
        line("lower case", &format!("GET {x} http/1.1"), 400),
        line("mixed case", &format!("GET {x} Http/1.1"), 400),
        line("another protocol", &format!("GET {x} ICY/1.1"), 400),
        line(
            "a method that is no token",
            &format!("GE(T {x} HTTP/1.1"),
            400,
        ),
        line("a method in quotes", &format!("\"GET\" {x} HTTP/1.1"), 400),
        line(
            "a method beyond ASCII",
            &format!("G\u{c9}T {x} HTTP/1.1"),
            400,
        ),
        line("NUL in the method", &format!("GE\0T {x} HTTP/1.1"), 400),
        case(
            "two empty lines first",
            format!("\r\n\r\nPOST {x} HTTP/1.1\r\n{GOOD}\r\n").as_bytes(),
            400,
        ),
        case(
            "an empty line of LF first",
            format!("\nPOST {x} HTTP/1.1\r\n{GOOD}\r\n").as_bytes(),
            400,
        ),
        case(
            "an empty line of CR first",
            format!("\rPOST {x} HTTP/1.1\r\n{GOOD}\r\n").as_bytes(),
            400,
        ),
        case(
            "an answer for a request",
            format!("HTTP/1.1 200 OK\r\n{GOOD}\r\n").as_bytes(),
            400,
        ),
        case(
            "the preface of HTTP/2 later on",
            format!("\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{GOOD}").as_bytes(),
            505,
        ),
        case(
            "a TLS handshake",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            400,
        ),
        target("a fragment", &format!("{x}#smuggled")),
        target("a fragment behind a query", &format!("{x}?a=1#b")),
        target("only a fragment", "#/crm/x/case-{N}"),
        target(
            "an absolute-form with a fragment",
            "http://{H}/crm/x/case-{N}#b",
        ),
        target("an opening bracket", &format!("{x}<y")),
        target("a closing bracket", &format!("{x}?a>y")),
        target("a quotation mark in a query", &format!("{x}?a=\"y\"")),
        target("a target without a slash", "crm/x/case-{N}"),
        target("NUL in the target", &format!("{x}\0")),
        target("DEL in the target", &format!("{x}\x7f")),
        target("a control character in the target", &format!("{x}\x01")),
        target("an absolute-form without a host", "http:///crm/x/case-{N}"),
        target("a scheme of another kind", "ht!tp://{H}/crm/x/case-{N}"),
    ]
}

pub fn limits() -> Vec<Case> {
    let long = |bytes: usize| "x".repeat(bytes);
    vec![
        line(
            "a request line of 70 KiB",
            &format!("GET /crm/x/case-{{N}}?{} HTTP/1.1", long(70 * 1024)),
            414,
        ),
        line(
            "a request line of 17 KiB",
            &format!("GET /crm/x/case-{{N}}?{} HTTP/1.1", long(17 * 1024)),
            414,
        ),
        with(
            "a field of 70 KiB",
            &format!("X: {}\r\n", long(70 * 1024)),
            "",
            431,
        ),
        with(
            "half a mebibyte of one field",
            &format!("X: {}\r\n", long(512 * 1024)),
            "",
            431,
        ),
        with(
            "a name of 70 KiB",
            &format!("{}: 1\r\n", long(70 * 1024)),
            "",
            431,
        ),
        with(
            "a head of 100 KiB",
            &format!("X: {}\r\n", long(10 * 1024)).repeat(10),
            "",
            431,
        ),
        with("a hundred and one fields", &"X: 1\r\n".repeat(99), "", 431),
        with("a thousand fields", &"X: 1\r\n".repeat(1000), "", 431),
    ]
}

/// Bodies: the call has begun when they turn out to be malformed.
pub fn bodies() -> Vec<Case> {
    vec![
        chunks("a size that is none", "x\r\nhello\r\n0\r\n\r\n"),
        chunks("no size", "\r\nhello\r\n0\r\n\r\n"),
        chunks("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        chunks("a size with a plus", "+5\r\nhello\r\n0\r\n\r\n"),
        chunks("a size with a minus", "-5\r\nhello\r\n0\r\n\r\n"),
        chunks("a size with an underscore", "1_0\r\nhello\r\n0\r\n\r\n"),
        chunks("a space before a size", " 5\r\nhello\r\n0\r\n\r\n"),
        chunks("a space behind a size", "5 \r\nhello\r\n0\r\n\r\n"),
        chunks("a tab behind a size", "5\t\r\nhello\r\n0\r\n\r\n"),
        chunks("a size ends in LF", "5\nhello\r\n0\r\n\r\n"),
        chunks("a size ends in CR", "5\rhello\r\n0\r\n\r\n"),
        chunks("a size ends in CR CR LF", "5\r\r\nhello\r\n0\r\n\r\n"),
        chunks("a chunk ends in LF", "5\r\nhello\n0\r\n\r\n"),
        chunks("a chunk ends in CR", "5\r\nhello\r0\r\n\r\n"),
        chunks("a chunk is longer than its size", "4\r\nhello\r\n0\r\n\r\n"),
        chunks("a chunk ends in any two bytes", "5\r\nhelloXX0\r\n\r\n"),
        chunks("a chunk has no end", "5\r\nhello0\r\n\r\n"),
        chunks(
            "a size that wraps round to five",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        chunks(
            "a size of many digits",
            "000000000000000000000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        chunks(
            "a size of 64 bits",
            "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        ),
        chunks("an extension that ends in LF", "5;a\nhello\r\n0\r\n\r\n"),
        chunks(
            "an extension with a CR in it",
            "5;a\rb\r\nhello\r\n0\r\n\r\n",
        ),
        chunks("an extension with NUL", "5;\0\r\nhello\r\n0\r\n\r\n"),
        chunks(
            "an extension of 8 KiB",
            &format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(8192)),
        ),
        chunks(
            "extensions without end",
            &format!(
                "{}0\r\n\r\n",
                format!("1;{}\r\nx\r\n", "x".repeat(100)).repeat(100)
            ),
        ),
        chunks("the last chunk ends in LF", "5\r\nhello\r\n0\n\r\n"),
        chunks("the body ends in LF", "5\r\nhello\r\n0\r\n\n"),
        chunks("the body ends in CR", "5\r\nhello\r\n0\r\n\rX"),
        chunks("a trailer ends in LF", "5\r\nhello\r\n0\r\nX: 1\n\r\n"),
        chunks("a trailer without a name", "5\r\nhello\r\n0\r\n: 1\r\n\r\n"),
        chunks(
            "a trailer with a space before its colon",
            "5\r\nhello\r\n0\r\nX : 1\r\n\r\n",
        ),
        chunks("a folded trailer", "5\r\nhello\r\n0\r\nX: 1\r\n 2\r\n\r\n"),
        chunks("a trailer with NUL", "5\r\nhello\r\n0\r\nX: \0\r\n\r\n"),
        chunks(
            "a request for a trailer",
            "5\r\nhello\r\n0\r\nGET /crm/x/hidden HTTP/1.1\r\n\r\n",
        ),
        chunks(
            "a length for a trailer",
            "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
        ),
        chunks(
            "a coding for a trailer",
            "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        chunks(
            "a trailer of 100 KiB",
            &format!("5\r\nhello\r\n0\r\nX: {}\r\n\r\n", "x".repeat(100 * 1024)),
        ),
        chunks(
            "a thousand trailers",
            &format!("5\r\nhello\r\n0\r\n{}\r\n", "X: 1\r\n".repeat(1000)),
        ),
    ]
}
