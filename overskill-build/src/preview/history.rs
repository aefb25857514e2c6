//! What was told lately, for those who come back.

use super::{CatchUp, HotMessage};
use overskill_core::StreamPosition;
use serde_json::json;
use std::collections::VecDeque;

/// The messages since a position.
#[derive(Debug)]
pub(super) struct History {
    /// Whoever stands before this has missed what is gone.
    since: u64,
    head: StreamPosition,
    /// How often it was restarted without a new position.
    epoch: u64,
    entries: VecDeque<Entry>,
    messages: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    seq: u64,
    /// Of a viewer's own making at a position that everybody may have reached: whoever stands there gets them again.
    repeat: bool,
    messages: Vec<HotMessage>,
}

impl History {
    const MOST_MESSAGES: usize = 256;
    const MOST_BYTES: usize = 1 << 20;

    pub(super) fn new(head: StreamPosition) -> Self {
        Self { since: head.seq, head, epoch: 0, entries: VecDeque::new(), messages: 0, bytes: 0 }
    }

    pub(super) fn head(&self) -> StreamPosition {
        self.head
    }

    /// Counts what loads pages anew without a new position: a page is told by it that it was loaded before.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What brought viewers to `head`; nothing, if it concerns none of them.
    pub(super) fn moved(&mut self, head: StreamPosition, messages: &[HotMessage]) {
        self.head = head;
        self.push(Entry { seq: head.seq, repeat: false, messages: messages.to_vec() });
    }

    /// What was told at the same position.
    pub(super) fn told(&mut self, messages: &[HotMessage]) {
        self.push(Entry { seq: self.head.seq, repeat: true, messages: messages.to_vec() });
    }

    /// From here on, nothing of before helps: who was not there has to load the page.
    pub(super) fn restart(&mut self, head: StreamPosition) {
        let epoch = self.epoch + u64::from(head == self.head);
        *self = Self { epoch, ..Self::new(head) };
    }

    /// What a viewer has missed who stands at `from` and was loaded in `epoch`, if it says so.
    pub(super) fn since(&self, from: StreamPosition, epoch: Option<u64>) -> CatchUp {
        let is_older = epoch.is_some_and(|epoch| epoch != self.epoch);
        if is_older || from.behind(self.head).is_none() || from.seq < self.since {
            return CatchUp::Reload(reload(from, self.head));
        }
        let missed = self.entries.iter().filter(|e| e.seq > from.seq || e.repeat && e.seq == from.seq);
        CatchUp::Messages(missed.flat_map(|entry| entry.messages.iter().cloned()).collect())
    }

    pub(super) fn retained_bytes(&self) -> usize {
        self.bytes + self.entries.capacity() * size_of::<Entry>()
    }

    fn push(&mut self, entry: Entry) {
        if entry.messages.is_empty() {
            return;
        }
        self.messages += entry.messages.len();
        self.bytes += bytes(&entry);
        self.entries.push_back(entry);
        while self.messages > Self::MOST_MESSAGES || self.bytes > Self::MOST_BYTES {
            let Some(gone) = self.entries.pop_front() else { break };
            self.messages -= gone.messages.len();
            self.bytes -= bytes(&gone);
            // Who stands where a repeated message was told may have missed it.
            self.since = self.since.max(gone.seq + u64::from(gone.repeat));
        }
        if self.since > self.head.seq {
            // The newest alone is over the limit: it cannot be told again.
            self.since = self.head.seq;
        }
    }
}

fn bytes(entry: &Entry) -> usize {
    entry.messages.iter().map(|message| message.text.len() + size_of::<HotMessage>()).sum()
}

fn reload(from: StreamPosition, head: StreamPosition) -> HotMessage {
    let mut message = json!({ "type": "full-reload", "path": "*" });
    // Who is there already, or farther, would take a message with this position for one that it has seen.
    let to = head.behind(from).is_none().then_some(head);
    if let Some(to) = to {
        message["position"] = super::messages::position(to);
    }
    HotMessage { position: to, text: message.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::Incarnation;

    fn at(seq: u64) -> StreamPosition {
        StreamPosition::new(Incarnation::from_u64(1), seq)
    }

    fn message(text: &str) -> HotMessage {
        HotMessage { position: None, text: text.to_owned() }
    }

    fn missed(history: &History, seq: u64) -> Option<Vec<String>> {
        match history.since(at(seq), None) {
            CatchUp::Messages(messages) => Some(messages.into_iter().map(|m| m.text).collect()),
            CatchUp::Reload(_) => None,
        }
    }

    #[test]
    fn who_comes_back_gets_what_it_missed_in_order() {
        let mut history = History::new(at(5));
        history.moved(at(6), &[message("a"), message("b")]);
        history.told(&[message("again")]);
        history.moved(at(7), &[]);
        history.moved(at(9), &[message("c")]);
        assert_eq!(missed(&history, 5).unwrap(), ["a", "b", "again", "c"]);
        assert_eq!(missed(&history, 6).unwrap(), ["again", "c"]);
        assert_eq!(missed(&history, 8).unwrap(), ["c"]);
        assert_eq!(missed(&history, 9).unwrap(), Vec::<String>::new());
        assert_eq!((missed(&history, 4), missed(&history, 10)), (None, None));
        let other = StreamPosition::new(Incarnation::from_u64(2), 9);
        assert!(
            matches!(history.since(other, None), CatchUp::Reload(m) if m.position == Some(at(9)) && m.text.contains("full-reload"))
        );
    }

    #[test]
    fn it_forgets_the_oldest_and_never_holds_more_than_its_limits() {
        let mut history = History::new(at(0));
        for seq in 1..=1000 {
            history.moved(at(seq), &[message("x")]);
        }
        assert_eq!(history.entries.len(), 256);
        assert!(missed(&history, 743).is_none() && missed(&history, 744).unwrap().len() == 256);
        history.moved(at(1001), &[message(&"y".repeat(2 << 20))]);
        assert!(history.bytes <= History::MOST_BYTES);
        assert_eq!(missed(&history, 1000), None);
        assert_eq!(missed(&history, 1001).unwrap().len(), 0);
    }

    #[test]
    fn after_a_restart_only_who_is_there_goes_on() {
        let mut history = History::new(at(1));
        history.moved(at(2), &[message("a")]);
        history.restart(at(3));
        assert_eq!((missed(&history, 2), missed(&history, 3)), (None, Some(vec![])));
    }

    #[test]
    fn who_was_loaded_before_a_reload_without_a_new_position_is_told_so() {
        let mut history = History::new(at(5));
        let told = |history: &History, seq: u64, epoch| match history.since(at(seq), Some(epoch)) {
            CatchUp::Messages(messages) => Ok(messages.len()),
            CatchUp::Reload(message) => Err((message.position, message.text.contains("position"))),
        };
        assert_eq!((history.epoch(), told(&history, 5, 0)), (0, Ok(0)));
        history.restart(at(5));
        assert_eq!(history.epoch(), 1);
        assert_eq!(told(&history, 5, 0), Err((None, false)), "with a position it would be taken for an old one");
        assert_eq!(told(&history, 5, 1), Ok(0), "who was loaded since goes on");
        history.moved(at(6), &[message("a")]);
        assert_eq!(told(&history, 5, 1), Ok(1));
        assert_eq!(told(&history, 5, 0), Err((Some(at(6)), true)), "who missed it is still told of it later");
        history.restart(at(7));
        assert_eq!((history.epoch(), told(&history, 7, 1)), (1, Ok(0)), "the position tells them apart");
        assert_eq!(told(&history, 9, 1), Err((None, false)), "from ahead");
    }
}
