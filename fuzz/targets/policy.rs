//! Files of policies: every text is answered, with places of what is wrong; and nothing is found differently a second time.

use toolgate::config::check_project;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let told = |text: &str| check_project(text).map_err(|errors| errors.to_string());
    let first = told(text);
    if let Err(errors) = &first {
        assert!(!errors.is_empty(), "a refusal without a word");
    }
    assert_eq!(first, told(text), "judged again, it is otherwise");
}
