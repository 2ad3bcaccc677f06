//! The terminal of the live inbox: a screen of its own, keys one by one, and everything as it was before on every way out.

use super::inbox::{Key, Row, Tone};
use crate::cli::Failure;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{
    self, Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen,
    LeaveAlternateScreen,
};
use crossterm::{execute, queue};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// A screen of our own, until this is dropped.
#[derive(Debug)]
pub(super) struct Screen {
    leaving: Arc<AtomicBool>,
}

/// What the person at the terminal did.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input {
    Pressed(Key),
    Resized,
    /// The terminal is gone.
    Gone,
}

/// How often the thread that reads keys looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Keys that wait to be dealt with.
const KEYS_MAX: usize = 256;

impl Screen {
    /// Takes the terminal, and says what is done at it.
    pub(super) fn open() -> Result<(Self, mpsc::Receiver<Input>), Failure> {
        let fault = |error| Failure::Ours(format!("the terminal can't be used: {error}"));
        terminal::enable_raw_mode().map_err(fault)?;
        // From here on it is given back, whatever happens.
        let screen = Self {
            leaving: Arc::default(),
        };
        give_back_on_panic();
        execute!(io::stdout(), EnterAlternateScreen, DisableLineWrap, Hide).map_err(fault)?;
        let (keys, pressed) = mpsc::channel(KEYS_MAX);
        let leaving = Arc::clone(&screen.leaving);
        std::thread::Builder::new()
            .name("keys".into())
            .spawn(move || read_keys(&leaving, &keys))
            .map_err(fault)?;
        Ok((screen, pressed))
    }

    /// Columns and lines.
    pub(super) fn size(&self) -> (usize, usize) {
        let (width, height) = terminal::size().unwrap_or((80, 24));
        (usize::from(width.max(20)), usize::from(height.max(6)))
    }

    /// Puts these lines on it, which fill it. Their texts were made harmless.
    pub(super) fn draw(&self, rows: &[Row]) -> io::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        for (line, row) in rows.iter().enumerate() {
            let Ok(line) = u16::try_from(line) else {
                break;
            };
            let attribute = match row.tone {
                Tone::Plain => Attribute::Reset,
                Tone::Head => Attribute::Dim,
                Tone::Selected => Attribute::Reverse,
                Tone::Question => Attribute::Bold,
            };
            // Cleared first: behind a full line the cursor still stands on its last character.
            queue!(
                out,
                MoveTo(0, line),
                SetAttribute(Attribute::Reset),
                Clear(ClearType::CurrentLine)
            )?;
            queue!(out, SetAttribute(attribute))?;
            marked(&mut out, &row.text, row.tone)?;
        }
        queue!(out, SetAttribute(Attribute::Reset))?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leaving.store(true, Ordering::Release);
        give_back();
    }
}

/// The text, with marks such as `[U+202E]` set off.
fn marked(out: &mut impl io::Write, text: &str, tone: Tone) -> io::Result<()> {
    let mut rest = text;
    while let Some(at) = rest.find("[U+") {
        let end = rest[at..]
            .find(']')
            .map_or(rest.len(), |length| at + length + 1);
        queue!(
            out,
            Print(&rest[..at]),
            SetAttribute(Attribute::Bold),
            SetAttribute(Attribute::Reverse),
            Print(&rest[at..end]),
            SetAttribute(Attribute::Reset)
        )?;
        if tone == Tone::Selected {
            queue!(out, SetAttribute(Attribute::Reverse))?;
        }
        rest = &rest[end..];
    }
    queue!(out, Print(rest))
}

/// The terminal as it was. Nothing can be done about what fails here.
fn give_back() {
    let _ = execute!(io::stdout(), Show, EnableLineWrap, LeaveAlternateScreen);
    let _ = terminal::disable_raw_mode();
}

/// A panic's message is for the person, not for a screen that goes away.
fn give_back_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        give_back();
        tell(panic);
    }));
}

/// On a thread of its own: reading keys blocks.
fn read_keys(leaving: &AtomicBool, keys: &mpsc::Sender<Input>) {
    while !leaving.load(Ordering::Acquire) {
        let input = match event::poll(LOOK_EVERY) {
            Ok(false) => continue,
            Ok(true) => match event::read() {
                Ok(event) => input(&event),
                Err(_) => Some(Input::Gone),
            },
            Err(_) => Some(Input::Gone),
        };
        let Some(input) = input else {
            continue;
        };
        let gone = matches!(input, Input::Gone);
        if keys.blocking_send(input).is_err() || gone {
            return;
        }
    }
}

fn input(event: &Event) -> Option<Input> {
    let key = match event {
        Event::Resize(..) => return Some(Input::Resized),
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        _ => return None,
    };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(Input::Pressed(match key.code {
        KeyCode::Char('c' | 'd') if control => Key::Interrupt,
        KeyCode::Char(_) if control || key.modifiers.contains(KeyModifiers::ALT) => return None,
        KeyCode::Char(letter) => Key::Character(letter),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    }))
}
