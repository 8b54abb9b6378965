//! Who may run: one migration per table, so many per server, so many in all; the oldest first. Pure.
//!
//! A migration *claims* its table from the moment it waits until it has ended and what it need not keep is gone, and a *slot* while an engine
//! works for it. An old table that stays has a name of its own and claims nothing.
//! Paused migrations give their slot back and keep the table. The order is that of creation; Kubernetes' clock has whole seconds, so those of
//! one `kubectl apply` are ordered by namespace and name.
//!
//! # Guarantees
//! Of two claims on one table at most one is ever granted. A younger claim never overtakes an older one that could run.
//! Nothing is granted before [`Queue::settle`]: after a start the claims of all objects must be known first, or a younger one would overtake.
use std::collections::{BTreeMap, HashMap, HashSet};

/// The UID of an object.
pub type Uid = String;

/// What a claim is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Seconds since 1970: the object's creation.
    pub created: i64,
    /// `namespace/name`
    pub display_name: String,
    /// `host:port`
    pub server: String,
    /// How many run on that server at once, as this claim's own `MySQLServer` says.
    pub server_limit: usize,
    /// Schema and name of the table.
    pub table: (String, String),
    /// The clauses: what those who wait for the same table will find there.
    pub alter: String,
}

impl Ticket {
    /// Host and table names are compared without case: at worst two tables whose names differ in case take turns.
    fn table_key(&self) -> (String, String, String) {
        (self.server.to_lowercase(), self.table.0.to_lowercase(), self.table.1.to_lowercase())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// No engine is wanted now; `why` the table is still held.
    None(Holding),
    Wanted,
    Held,
}

/// Why a migration that needs no slot still holds its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// It is paused and its tables are there.
    Paused,
    /// It failed and its tables are there.
    Failed,
    /// It succeeded, and what it left is about to be dropped.
    CleanUp,
    /// It was a test, and the new table is there.
    TestTable,
    /// Its change is made and can still be taken back: an engine keeps the old table current, which needs no slot.
    Revertible,
}

impl Holding {
    fn describe(self) -> &'static str {
        match self {
            Holding::Paused => "is paused",
            Holding::Failed => "failed and left tables behind: retry or delete it",
            Holding::CleanUp => "succeeded and is dropping its leftovers",
            Holding::Revertible => "succeeded and can be reverted until its window ends: set its spec.revert.window to 0s to continue now",
            Holding::TestTable => "was a test and keeps its new table: shorten its spec.oldTable.retention to continue now",
        }
    }
}

#[derive(Clone, Debug)]
struct Claim {
    ticket: Ticket,
    slot: Slot,
    /// It has begun, so its tables are there: it holds the table while it waits for a slot again.
    has_table: bool,
}

/// Whether a claim may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may; it holds a slot now.
    Granted,
    /// It waits, and this is why.
    Waits(String),
    /// Not all claims are known yet.
    NotYet,
}

/// The claims of one operator.
#[derive(Debug)]
pub(super) struct Queue {
    claims: BTreeMap<Uid, Claim>,
    total_limit: usize,
    settled: bool,
}

impl Queue {
    /// An empty queue for at most `total_limit` engines.
    pub fn new(total_limit: usize) -> Self {
        Self { claims: BTreeMap::new(), total_limit, settled: false }
    }

    /// All objects that were there at the start have been visited: slots may be granted from now on.
    pub fn settle(&mut self) {
        self.settled = true;
    }

    /// Whether [`Queue::settle`] was called.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Asks for a slot, or confirms one that is held. `begun` says that the migration's tables may be there already.
    pub fn enter(&mut self, uid: &str, ticket: Ticket, begun: bool) -> Admission {
        let before = self.claims.get(uid).map(|claim| (claim.slot, claim.has_table));
        let slot = if matches!(before, Some((Slot::Held, _))) { Slot::Held } else { Slot::Wanted };
        let has_table = begun || before.is_some_and(|(_, has_table)| has_table);
        self.claims.insert(uid.to_owned(), Claim { ticket, slot, has_table });
        self.place(uid)
    }

    /// Gives the slot back, if there is one, and holds the table.
    pub fn hold_table(&mut self, uid: &str, ticket: Ticket, why: Holding) {
        self.claims.insert(uid.to_owned(), Claim { ticket, slot: Slot::None(why), has_table: true });
    }

    /// Gives everything back.
    pub fn leave(&mut self, uid: &str) {
        self.claims.remove(uid);
    }

    /// The claims that wait and could have a slot now, the oldest first.
    pub(super) fn runnable(&self) -> Vec<Uid> {
        let granted = self.granted();
        let waits = |(uid, claim): &(&Uid, &Claim)| claim.slot == Slot::Wanted && granted.contains(*uid);
        self.in_order().into_iter().filter(waits).map(|(uid, _)| uid.clone()).collect()
    }

    /// The clauses of those who have or get the same table first, in that order; empty where they have a definition instead.
    pub fn before(&self, uid: &str) -> Vec<String> {
        let Some(mine) = self.claims.get(uid) else { return Vec::new() };
        let key = mine.ticket.table_key();
        let order = self.in_order();
        let same = || order.iter().filter(|(other, claim)| other.as_str() != uid && claim.ticket.table_key() == key);
        let has_it = |claim: &Claim| claim.slot != Slot::Wanted || claim.has_table;
        let holders = same().filter(|(_, claim)| has_it(claim));
        let older = order
            .iter()
            .take_while(|(other, _)| other.as_str() != uid)
            .filter(|(_, claim)| claim.ticket.table_key() == key && !has_it(claim));
        holders.chain(older).map(|(_, claim)| claim.ticket.alter.clone()).collect()
    }

    /// The claims that wait.
    pub fn waiting(&self) -> Vec<Uid> {
        self.claims.iter().filter(|(_, claim)| claim.slot == Slot::Wanted).map(|(uid, _)| uid.clone()).collect()
    }

    /// Claims that hold a slot.
    pub fn running(&self) -> usize {
        self.claims.values().filter(|claim| claim.slot == Slot::Held).count()
    }

    fn place(&mut self, uid: &str) -> Admission {
        if self.granted().contains(uid) {
            if let Some(claim) = self.claims.get_mut(uid) {
                claim.slot = Slot::Held;
            }
            return Admission::Granted;
        }
        if !self.settled {
            return Admission::NotYet;
        }
        Admission::Waits(self.why(uid))
    }

    fn in_order(&self) -> Vec<(&Uid, &Claim)> {
        let mut order: Vec<_> = self.claims.iter().collect();
        order.sort_by(|(uid, a), (other, b)| {
            (a.ticket.created, &a.ticket.display_name, uid).cmp(&(b.ticket.created, &b.ticket.display_name, other))
        });
        order
    }

    /// Who holds a slot, or would get one if each waiting claim were asked in order of age.
    fn granted(&self) -> HashSet<Uid> {
        let mut granted: HashSet<Uid> =
            self.claims.iter().filter(|(_, claim)| claim.slot == Slot::Held).map(|(uid, _)| uid.clone()).collect();
        if !self.settled {
            return granted;
        }
        let mut tables: HashMap<_, &Uid> = HashMap::new();
        let mut on_server: HashMap<String, usize> = HashMap::new();
        for (uid, claim) in &self.claims {
            if claim.slot != Slot::Wanted || claim.has_table {
                tables.entry(claim.ticket.table_key()).or_insert(uid);
            }
            if claim.slot == Slot::Held {
                *on_server.entry(claim.ticket.server.to_lowercase()).or_default() += 1;
            }
        }
        for (uid, claim) in self.in_order() {
            if claim.slot != Slot::Wanted {
                continue;
            }
            // The oldest that waits for a table has it reserved, also while it waits for a slot.
            if *tables.entry(claim.ticket.table_key()).or_insert(uid) != uid {
                continue;
            }
            let running_there = on_server.entry(claim.ticket.server.to_lowercase()).or_default();
            if granted.len() < self.total_limit && *running_there < claim.ticket.server_limit {
                *running_there += 1;
                granted.insert(uid.clone());
            }
        }
        granted
    }

    fn why(&self, uid: &str) -> String {
        let Some(mine) = self.claims.get(uid) else { return "waiting".to_owned() };
        let key = mine.ticket.table_key();
        let others = || self.in_order().into_iter().filter(|(other, claim)| other.as_str() != uid && claim.ticket.table_key() == key);
        let holder = others().find(|(_, claim)| claim.slot != Slot::Wanted || claim.has_table);
        if let Some((_, claim)) = holder.or_else(|| others().next().filter(|_| !mine.has_table)) {
            let (database, table) = &mine.ticket.table;
            return match claim.slot {
                Slot::None(why) => {
                    format!("waiting for {}, which is using the table {database}.{table}: it {}", claim.ticket.display_name, why.describe())
                }
                _ => format!("waiting for {}, which is using the table {database}.{table}", claim.ticket.display_name),
            };
        }
        let there = self
            .claims
            .values()
            .filter(|claim| claim.slot == Slot::Held && claim.ticket.server.eq_ignore_ascii_case(&mine.ticket.server))
            .count();
        if there >= mine.ticket.server_limit {
            return format!("waiting for a free slot on {} ({} in use)", mine.ticket.server, mine.ticket.server_limit);
        }
        if self.running() >= self.total_limit {
            return format!("waiting for a free slot of this operator ({} in use; --max-concurrent-migrations)", self.total_limit);
        }
        "waiting for older migrations that are about to start".to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ticket(created: i64, server: &str, table: &str) -> Ticket {
        Ticket {
            created,
            display_name: format!("ns/{table}-{created}"),
            server: server.to_owned(),
            server_limit: 2,
            table: ("shop".to_owned(), table.to_owned()),
            alter: format!("ADD c{created} INT"),
        }
    }

    fn settled(total: usize) -> Queue {
        let mut queue = Queue::new(total);
        queue.settle();
        queue
    }

    fn why(place: Admission) -> String {
        match place {
            Admission::Waits(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_migration_per_table_whatever_the_case_of_names() {
        let mut queue = settled(10);
        assert_eq!(queue.enter("a", ticket(1, "db:3306", "orders"), false), Admission::Granted);
        assert_eq!(
            why(queue.enter("b", ticket(2, "DB:3306", "Orders"), false)),
            "waiting for ns/orders-1, which is using the table shop.Orders"
        );
        assert_eq!(queue.enter("c", ticket(3, "db:3306", "items"), false), Admission::Granted);
        assert_eq!(queue.enter("d", ticket(3, "other:3306", "orders"), false), Admission::Granted);
        queue.leave("a");
        assert_eq!(queue.runnable(), ["b"]);
        assert_eq!(queue.enter("b", ticket(2, "DB:3306", "Orders"), false), Admission::Granted);
    }

    #[test]
    fn the_table_stays_taken_until_it_is_left() {
        for (holding, word) in [
            (Holding::Paused, "is paused"),
            (Holding::Failed, "failed"),
            (Holding::CleanUp, "dropping"),
            (Holding::TestTable, "keeps its new table"),
        ] {
            let mut queue = settled(10);
            queue.enter("a", ticket(1, "db", "orders"), false);
            queue.hold_table("a", ticket(1, "db", "orders"), holding);
            let reason = why(queue.enter("b", ticket(2, "db", "orders"), false));
            assert!(reason.contains("ns/orders-1") && reason.contains(word), "{reason}");
            assert!(queue.runnable().is_empty());
            queue.leave("a");
            assert_eq!(queue.runnable(), ["b"]);
        }
    }

    #[test]
    fn limits_per_server_and_in_all() {
        let mut queue = settled(3);
        assert_eq!(queue.enter("a", ticket(1, "db", "a"), false), Admission::Granted);
        assert_eq!(queue.enter("b", ticket(2, "db", "b"), false), Admission::Granted);
        assert_eq!(why(queue.enter("c", ticket(3, "db", "c"), false)), "waiting for a free slot on db (2 in use)");
        assert_eq!(queue.enter("d", ticket(4, "other", "d"), false), Admission::Granted);
        assert!(why(queue.enter("e", ticket(5, "third", "e"), false)).contains("(3 in use; --max-concurrent-migrations)"));
        queue.leave("d");
        assert_eq!(queue.runnable(), ["e"], "c still has no place on its server");
        queue.hold_table("a", ticket(1, "db", "a"), Holding::Paused);
        assert_eq!(queue.runnable(), ["c", "e"]);
        assert_eq!(queue.enter("c", ticket(3, "db", "c"), false), Admission::Granted);
    }

    #[test]
    fn the_oldest_is_first_and_a_younger_one_does_not_overtake() {
        let mut queue = settled(1);
        assert_eq!(queue.enter("x", ticket(0, "db", "x"), false), Admission::Granted);
        queue.enter("young", ticket(9, "db", "young"), false);
        queue.enter("old", ticket(5, "db", "old"), false);
        queue.leave("x");
        assert_eq!(queue.runnable(), ["old"]);
        assert!(why(queue.enter("young", ticket(9, "db", "young"), false)).contains("older"));
        assert_eq!(queue.enter("old", ticket(5, "db", "old"), false), Admission::Granted);
    }

    #[test]
    fn the_oldest_that_waits_for_a_table_has_it_reserved() {
        let mut queue = settled(10);
        queue.enter("busy-1", ticket(0, "db", "x"), false);
        queue.enter("busy-2", ticket(0, "db", "y"), false);
        why(queue.enter("first", ticket(1, "db", "orders"), false));
        // Another limit for the same server would let the second in; the table is the first one's.
        let generous = Ticket { server_limit: 9, ..ticket(2, "db", "orders") };
        assert!(why(queue.enter("second", generous, false)).contains("ns/orders-1"));
    }

    #[test]
    fn nothing_is_granted_before_everybody_is_known() {
        let mut queue = Queue::new(1);
        assert_eq!(queue.enter("young", ticket(2, "db", "orders"), false), Admission::NotYet);
        assert!(queue.runnable().is_empty());
        assert_eq!(queue.enter("old", ticket(1, "db", "orders"), false), Admission::NotYet);
        queue.settle();
        assert_eq!(queue.runnable(), ["old"]);
        assert!(why(queue.enter("young", ticket(2, "db", "orders"), false)).contains("ns/orders-1"));
    }

    #[test]
    fn one_that_has_begun_keeps_its_table_while_it_waits_for_a_slot() {
        let mut queue = settled(1);
        queue.enter("other", ticket(5, "db", "other"), false);
        // After a restart of the operator: begun, younger than the one that waits for the same table.
        why(queue.enter("begun", ticket(9, "db", "orders"), true));
        assert!(why(queue.enter("old", ticket(1, "db", "orders"), false)).contains("ns/orders-9"));
        queue.leave("other");
        assert_eq!(queue.runnable(), ["begun"]);
    }

    #[test]
    fn a_slot_that_is_held_stays_held() {
        let mut queue = settled(1);
        assert_eq!(queue.enter("young", ticket(9, "db", "a"), false), Admission::Granted);
        queue.enter("old", ticket(1, "db", "b"), false);
        assert_eq!(queue.enter("young", ticket(9, "db", "a"), false), Admission::Granted);
        assert!(queue.runnable().is_empty());
    }

    #[test]
    fn who_waits_knows_what_is_done_to_its_table_before() {
        let mut queue = settled(10);
        queue.enter("3", ticket(3, "db", "orders"), false);
        queue.enter("9", ticket(9, "db", "orders"), false);
        queue.enter("5", ticket(5, "DB", "Orders"), false);
        queue.enter("1", ticket(1, "db", "items"), false);
        let clauses = |n: &[i64]| n.iter().map(|n| format!("ADD c{n} INT")).collect::<Vec<_>>();
        for (uid, before) in [("3", &[][..]), ("5", &[3][..]), ("9", &[3, 5]), ("1", &[]), ("unknown", &[])] {
            assert_eq!(queue.before(uid), clauses(before), "{uid}");
        }
    }

    #[test]
    fn equal_ages_are_ordered_by_name() {
        let mut queue = settled(1);
        queue.enter("x", ticket(0, "db", "x"), false);
        queue.enter("1", ticket(7, "db", "b"), false);
        queue.enter("2", ticket(7, "db", "a"), false);
        queue.leave("x");
        assert_eq!(queue.runnable(), ["2"]);
    }
}
