//! The inbox under a person's keys.

use super::*;
use crate::cli::approvals::shown::tests::sample;
use serde_json::json;

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

fn screen(inbox: &mut Inbox) -> String {
    let rows = inbox.rows(100, 40, NOW);
    rows.into_iter().map(|row| row.text + "\n").collect()
}

fn other(id: &str) -> Value {
    let mut other = sample();
    other["id"] = id.into();
    other
}

fn press(inbox: &mut Inbox, keys: &str) -> Option<Wish> {
    let mut wish = None;
    for letter in keys.chars() {
        let key = match letter {
            '\n' => Key::Enter,
            '\u{1b}' => Key::Escape,
            letter => Key::Character(letter),
        };
        wish = inbox.key(key, 40);
    }
    wish
}

#[test]
fn what_waits_is_listed_oldest_first_with_the_time_that_is_left() {
    let mut inbox = Inbox::default();
    inbox.listed(vec![sample(), other("apr_2")]);
    let text = screen(&mut inbox);
    assert!(text.contains("2 wait for a person"), "{text}");
    assert!(
        text.contains(
            "5m 00s  ! 1 of 2  demo/support-bot  DELETE /crm/users/7?x=[U+200B] at crm:80"
        ),
        "{text}"
    );
    assert_eq!(
        press(&mut inbox, "j\n"),
        Some(Wish::Show("apr_2".to_owned()))
    );
    // What came or went above leaves the choice where it was.
    inbox.listed(vec![other("apr_2"), other("apr_3")]);
    assert_eq!(
        press(&mut inbox, "\n"),
        Some(Wish::Show("apr_2".to_owned()))
    );
    inbox.listed(Vec::new());
    assert!(screen(&mut inbox).contains("nothing waits"));
    assert_eq!(press(&mut inbox, "\n"), None);
    assert_eq!(press(&mut inbox, "q"), Some(Wish::Quit));
}

#[test]
fn a_word_is_given_only_on_what_was_shown_with_its_digest_and_after_a_confirmation() {
    let mut inbox = Inbox::default();
    inbox.listed(vec![sample()]);
    let id = sample()["id"].as_str().unwrap().to_owned();
    // From the list the key only shows it.
    assert_eq!(press(&mut inbox, "a"), Some(Wish::Show(id.clone())));
    inbox.shown(sample());
    assert!(screen(&mut inbox).contains("header fields that will be forwarded"));
    assert_eq!(press(&mut inbox, "afine\n"), None);
    let text = screen(&mut inbox);
    assert!(
        text.contains("Approve exactly this (digest dddddddddddd)? y/n"),
        "{text}"
    );
    assert_eq!(press(&mut inbox, "j"), None, "it may be read on");
    let wish = press(&mut inbox, "y");
    let decide = |word, note: Option<&str>| {
        Wish::Decide(Decision {
            id: id.clone(),
            word,
            digest: "d".repeat(64),
            note: note.map(str::to_owned),
        })
    };
    assert_eq!(wish, Some(decide(Word::Approve, Some("fine"))));
    assert_eq!(press(&mut inbox, "y"), None, "once");
    inbox.decided(Err("late".to_owned()));
    assert!(screen(&mut inbox).contains("late"));
    assert_eq!(press(&mut inbox, "d\nn"), None);
    assert_eq!(press(&mut inbox, "d\ny"), Some(decide(Word::Deny, None)));
}

#[test]
fn what_can_not_be_decided_any_more_is_not_asked_about() {
    let mut inbox = Inbox::default();
    inbox.shown(sample());
    press(&mut inbox, "a\n");
    let mut over = sample();
    over["state"] = "expired".into();
    over["you"] = json!({"may_decide": false, "because": "it is expired already"});
    inbox.shown(over.clone());
    assert_eq!(press(&mut inbox, "y"), None);
    press(&mut inbox, "a");
    assert!(screen(&mut inbox).contains("it is expired already"));
    // Another request under the same name would begin anew.
    inbox.shown(sample());
    press(&mut inbox, "a\n");
    let mut swapped = sample();
    swapped["digest"] = "e".repeat(64).into();
    inbox.shown(swapped);
    assert_eq!(press(&mut inbox, "y"), None);
}
