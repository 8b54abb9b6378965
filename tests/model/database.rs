//! The server's side of the model: the original, the log, and when a transaction is seen.

use crate::rules::Size;

/// The most keys a run can have.
pub const KEYS: usize = 3;
/// The most transactions a run can have.
pub const TRANSACTIONS: usize = 4;

/// A table: for each key its unique value, 0 where there is no row.
pub type Table = [u8; KEYS];

/// One bit per key.
pub type Keys = u8;

/// The keys in a mask.
pub fn each(keys: Keys) -> impl Iterator<Item = usize> {
    (0..KEYS).filter(move |k| keys & (1 << k) != 0)
}

/// A transaction of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Insert the row, or update its value.
    Set(u8, u8),
    /// Delete the row.
    Delete(u8),
    /// Delete the first row and give its value to the second.
    Hand(u8, u8),
    /// Exchange the values of two rows.
    Swap(u8, u8),
}

/// A transaction in the log: the rows after it, and what it locks until it is visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Logged {
    /// The keys of its before and after images.
    pub keys: Keys,
    /// What these rows are afterwards.
    after: Table,
    /// The unique values it gave up or took, as a bit mask.
    values: u8,
}

/// The original and its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Database {
    initial: Table,
    log: [Logged; TRANSACTIONS],
    /// Transactions in the log; binlog readers are sent all of them.
    pub logged: u8,
    /// Those that other sessions see, one bit each.
    visible: u8,
}

impl Database {
    pub fn new(initial: Table) -> Self {
        Self { initial, log: [Logged::default(); TRANSACTIONS], logged: 0, visible: 0 }
    }

    /// What a read of the original that starts now returns.
    pub fn read(&self) -> Table {
        self.fold(self.visible)
    }

    /// The original with everything that is in the log.
    fn latest(&self) -> Table {
        self.fold((1 << self.logged) - 1)
    }

    fn fold(&self, which: u8) -> Table {
        let mut table = self.initial;
        for i in each_position(which) {
            for k in each(self.log[i].keys) {
                table[k] = self.log[i].after[k];
            }
        }
        table
    }

    /// The transaction at a position (the first is 1).
    pub fn at(&self, position: u8) -> &Logged {
        &self.log[usize::from(position) - 1]
    }

    /// Whether everything up to a position is visible.
    pub fn all_visible(&self, position: u8) -> bool {
        let upto = (1u8 << position) - 1;
        self.visible & upto == upto
    }

    /// The largest position up to which everything is visible: what `gtid_executed` says, if commits are in order.
    pub fn executed(&self) -> u8 {
        self.visible.trailing_ones().try_into().unwrap_or(0)
    }

    /// Keys that a transaction in the log still holds locked.
    pub fn locked(&self) -> Keys {
        each_position(self.hidden()).fold(0, |keys, i| keys | self.log[i].keys)
    }

    fn hidden(&self) -> u8 {
        ((1 << self.logged) - 1) & !self.visible
    }

    /// The transactions that may become visible next.
    pub fn next_visible(&self, ordered: bool) -> impl Iterator<Item = u8> {
        each_position(self.hidden()).take(if ordered { 1 } else { TRANSACTIONS }).map(|i| i as u8)
    }

    /// Lets a transaction become visible.
    pub fn make_visible(&mut self, transaction: u8) {
        self.visible |= 1 << transaction;
    }

    /// The transactions the application can commit now: valid by the unique key, and not waiting for a row lock.
    pub fn writes(&self, size: &Size, out: &mut Vec<Write>) {
        if self.logged >= size.transactions {
            return;
        }
        let now = self.latest();
        for k in 0..size.keys {
            for v in 1..=size.values {
                out.push(Write::Set(k, v));
            }
            out.push(Write::Delete(k));
            if size.two_row_writes {
                for j in (0..size.keys).filter(|j| *j != k) {
                    out.push(Write::Hand(k, j));
                    out.push(Write::Swap(k, j));
                }
            }
        }
        let (mut keys, mut values) = (0, 0);
        for i in each_position(self.hidden()) {
            keys |= self.log[i].keys;
            values |= self.log[i].values;
        }
        out.retain(|write| apply(&now, *write).is_some_and(|new| new.keys & keys == 0 && new.values & values == 0));
    }

    /// Puts a transaction into the log. It is not visible yet.
    pub fn log(&mut self, write: Write) {
        let entry = apply(&self.latest(), write).expect("only valid writes are offered");
        self.log[usize::from(self.logged)] = entry;
        self.logged += 1;
    }
}

fn each_position(which: u8) -> impl Iterator<Item = usize> {
    (0..TRANSACTIONS).filter(move |i| which & (1 << i) != 0)
}

/// The log entry of a write, if the unique key allows it and it changes something.
fn apply(now: &Table, write: Write) -> Option<Logged> {
    let mut after = *now;
    let allowed = match write {
        Write::Set(k, v) => {
            after[usize::from(k)] = v;
            !now.contains(&v)
        }
        Write::Delete(k) => {
            after[usize::from(k)] = 0;
            now[usize::from(k)] != 0
        }
        Write::Hand(k, j) => {
            after[usize::from(j)] = now[usize::from(k)];
            after[usize::from(k)] = 0;
            now[usize::from(k)] != 0
        }
        Write::Swap(k, j) => {
            after.swap(usize::from(k), usize::from(j));
            k < j && now[usize::from(k)] != 0 && now[usize::from(j)] != 0
        }
    };
    if !allowed {
        return None;
    }
    let mut entry = Logged::default();
    for k in 0..KEYS {
        if now[k] != after[k] {
            entry.keys |= 1 << k;
            entry.after[k] = after[k];
            entry.values |= (1 << now[k]) | (1 << after[k]);
        }
    }
    entry.values &= !1;
    Some(entry)
}
