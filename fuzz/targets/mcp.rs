//! Messages of MCP: what the gate takes a message for is what another reader of JSON takes it for.

use toolgate::gate::path_of;
use toolgate::policy::route::called;

pub fn run(data: &[u8]) {
    let Some(path) = path_of(data) else { return };
    let Some(other) = super::another(data) else {
        return;
    };
    assert_eq!(other["jsonrpc"], "2.0");
    let method = other["method"]
        .as_str()
        .expect("a message that is routed has a method");
    let parameter = match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => Some("uri"),
        _ => None,
    };
    let name = parameter.map(|name| {
        other["params"][name]
            .as_str()
            .expect("it says what it calls")
    });
    assert_eq!(called(method, name), Some(path), "{method} {name:?}");
    // A reader that ignores case finds no second of them.
    let members = other.as_object().expect("an object");
    for known in ["jsonrpc", "id", "method", "params"] {
        let alike = members
            .keys()
            .filter(|name| name.eq_ignore_ascii_case(known));
        assert!(alike.count() <= 1, "{known} is there twice");
    }
}
