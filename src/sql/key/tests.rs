//! The codec and its predicates together.

use std::cmp::Ordering;

use mysql_async::Value;
use proptest::prelude::*;

use crate::sql::key::{Key, KeyCodec, KeyColumn, KeyError, KeyRange, MigrationKey, Side};
use crate::sql::mapping::tests::{INT, column};
use crate::sql::table::{Column, ColumnType, TableDefinition};

fn text(name: &str, column_type: ColumnType, collation: &str) -> Column {
    let charset = collation.split('_').next().unwrap_or_default();
    Column { charset: Some(charset.into()), collation: Some(collation.into()), nullable: false, ..column(name, column_type) }
}

const NAME: ColumnType = ColumnType::VarChar { length: 20 };
const BYTES: ColumnType = ColumnType::VarBinary { length: 20 };

/// A codec over all columns, none of which may be NULL; `-` before a name makes it descending.
fn codec(original: &[Column], ghost: &[Column], key: &[&str]) -> KeyCodec {
    let not_null: Vec<Column> = original.iter().map(|c| Column { nullable: false, ..c.clone() }).collect();
    codec_as_is(&not_null, ghost, key)
}

fn codec_as_is(original: &[Column], ghost: &[Column], key: &[&str]) -> KeyCodec {
    let table = |columns: &[Column]| TableDefinition { name: "t".into(), columns: columns.to_vec(), indexes: vec![] };
    let columns = key.iter().map(|name| {
        let (name, descending) = (name.trim_start_matches('-'), name.starts_with('-'));
        let at = original.iter().position(|c| c.name == name).expect("a column");
        KeyColumn { original: name.into(), ghost: ghost[at].name.clone(), descending }
    });
    let key = MigrationKey {
        index: "u".into(),
        columns: columns.collect(),
        ghost_unique_index: "u".into(),
        ghost_index: "u".into(),
        nullable: vec![],
        helper: None,
    };
    KeyCodec::new(&table(original), &table(ghost), &key).expect("a codec")
}

fn same(columns: &[Column], key: &[&str]) -> KeyCodec {
    codec(columns, columns, key)
}

fn key(codec: &KeyCodec, values: &[Value]) -> Key {
    codec.encode_row(values).expect("a key")
}

fn bytes(b: &[u8]) -> Value {
    Value::Bytes(b.to_vec())
}

#[test]
fn one_integer() {
    let c = same(&[column("id", INT)], &["id"]);
    let (one, two) = (key(&c, &[Value::Int(1)]), key(&c, &[Value::Int(-2)]));
    assert_eq!(one.as_bytes().len(), 8);
    assert_eq!(c.tuple(&two), "-2");
    assert_eq!(c.select_list(Side::Original), "`id`");
    assert_eq!(c.equals(Side::Ghost, &one), "`id` = 1");
    assert_eq!(c.in_list(Side::Original, [&one, &two].into_iter()), "`id` IN (1, -2)");
    assert_eq!(c.in_list(Side::Original, std::iter::empty()), "FALSE");
    let range = |lo: Option<&Key>, hi: Option<&Key>| c.range(Side::Original, &KeyRange { lo: lo.cloned(), hi: hi.cloned() });
    assert_eq!(range(Some(&two), Some(&one)), "(`id` > -2 AND `id` <= 1)");
    assert_eq!(range(None, Some(&one)), "`id` <= 1");
    assert_eq!(range(Some(&one), None), "`id` > 1");
    assert_eq!(range(None, None), "TRUE");
    assert_eq!(range(Some(&one), Some(&one)), "FALSE");
    assert_eq!(c.compare(&two, &one), Some(Ordering::Less));
    assert!(c.client_comparable() && c.same_order());
}

/// A row that has no key is in no range, and in the log it is an error of its own.
#[test]
fn rows_without_a_key_are_in_no_range() {
    let columns = [Column { nullable: false, ..column("a", INT) }, column("b", INT)];
    let c = codec_as_is(&columns, &columns, &["a", "b"]);
    let k = key(&c, &[Value::Int(1), Value::Int(2)]);
    assert_eq!(c.range(Side::Original, &KeyRange::ALL), "`b` IS NOT NULL");
    assert_eq!(
        c.range(Side::Original, &KeyRange { lo: None, hi: Some(k.clone()) }),
        "((`a` <= 1 AND (`a` < 1 OR (`a` = 1 AND `b` <= 2))) AND `b` IS NOT NULL)"
    );
    assert_eq!(c.range(Side::Ghost, &KeyRange::ALL), "TRUE", "the ghost has none");
    assert_eq!(c.range(Side::Original, &KeyRange { lo: Some(k.clone()), hi: Some(k) }), "(FALSE AND `b` IS NOT NULL)");
    assert_eq!(c.encode_row(&[Value::Int(1), Value::NULL]), Err(KeyError::Null("b".to_owned())));
    assert!(matches!(c.encode_row(&[Value::NULL, Value::Int(1)]), Err(KeyError::UnexpectedValue { .. })));
}

#[test]
fn composites() {
    let columns = [column("a", INT), column("b", BYTES), column("c", INT)];
    let c = same(&columns, &["c", "-b", "a"]);
    assert_eq!(c.positions(), [2, 1, 0]);
    assert_eq!(c.order_by(Side::Original), "`c`, `b` DESC, `a`");
    let k = |c_: i64, b: &[u8], a: i64| key(&c, &[Value::Int(c_), bytes(b), Value::Int(a)]);
    let (lo, hi) = (k(1, b"x", 2), k(3, b"\0", 4));
    assert_eq!(c.tuple(&hi), "(3, _binary X'00', 4)");
    assert_eq!(c.equals(Side::Original, &hi), "(`c` = 3 AND `b` = _binary X'00' AND `a` = 4)");
    assert_eq!(c.in_list(Side::Ghost, [&hi].into_iter()), "(`c`, `b`, `a`) IN ((3, _binary X'00', 4))");
    assert_eq!(
        c.range(Side::Original, &KeyRange { lo: Some(lo.clone()), hi: Some(hi) }),
        "(`c` >= 1 AND (`c` > 1 OR (`c` = 1 AND `b` < _binary X'78') OR (`c` = 1 AND `b` = _binary X'78' AND `a` > 2)) \
         AND `c` <= 3 AND (`c` < 3 OR (`c` = 3 AND `b` > _binary X'00') OR (`c` = 3 AND `b` = _binary X'00' AND `a` <= 4)))"
    );
    assert_eq!(
        c.range(Side::Original, &KeyRange { lo: Some(lo), hi: Some(k(1, b"x", 9)) }),
        "(`c` = 1 AND `b` = _binary X'78' AND `a` > 2 AND `a` <= 9)"
    );
    // Descending: longer first.
    assert_eq!(c.compare(&k(1, b"xy", 0), &k(1, b"x", 0)), Some(Ordering::Less));
}

#[test]
fn strings_are_the_servers() {
    let c = same(&[column("a", INT), text("b", NAME, "latin1_swedish_ci")], &["a", "b"]);
    assert_eq!(c.select_list(Side::Original), "`a`, CAST(`b` AS BINARY)");
    let k = |a: i64, b: &[u8]| key(&c, &[Value::Int(a), bytes(b)]);
    assert_eq!(c.compare(&k(1, b"x"), &k(2, b"a")), Some(Ordering::Less));
    assert_eq!(c.compare(&k(1, b"x"), &k(1, b"X")), None);
    assert_eq!(c.compare(&k(1, b"x"), &k(1, b"x")), Some(Ordering::Equal));
    assert!(!c.client_comparable());
    assert_eq!(
        c.classify_sql(&[k(1, b"x"), k(-1, b"")], Some(&k(5, b"z")), &[KeyRange { lo: None, hi: Some(k(1, b"X")) }]),
        "SELECT n, CASE WHEN (k0 >= _binary X'8000000000000005' AND (k0 > _binary X'8000000000000005' OR \
         (k0 = _binary X'8000000000000005' AND k1 > _latin1 X'7A'))) THEN -1 WHEN (k0 <= _binary X'8000000000000001' AND \
         (k0 < _binary X'8000000000000001' OR (k0 = _binary X'8000000000000001' AND k1 <= _latin1 X'58'))) THEN 1 ELSE 0 END AS class \
         FROM (SELECT 0 AS n, _binary X'8000000000000001' AS k0, _latin1 X'78' COLLATE latin1_swedish_ci AS k1 \
         UNION ALL SELECT 1 AS n, _binary X'7FFFFFFFFFFFFFFF' AS k0, _latin1 X'' COLLATE latin1_swedish_ci AS k1) AS dirty_keys"
    );
    assert!(c.classify_sql(&[], None, &[]).ends_with("WHERE FALSE"));
    assert!(c.classify_sql(&[k(1, b"x")], None, &[]).starts_with("SELECT n, 0 AS class"));
}

#[test]
fn another_collation_on_the_ghost() {
    let original = [text("b", NAME, "utf8mb4_bin")];
    let c = codec(&original, &[text("b", NAME, "utf8mb4_general_ci")], &["b"]);
    let k = key(&c, &[bytes(b"a")]);
    assert_eq!(c.in_list(Side::Original, [&k].into_iter()), "`b` IN (_utf8mb4 X'61')");
    assert_eq!(c.in_list(Side::Ghost, [&k].into_iter()), "(`b` IN (_utf8mb4 X'61') AND `b` COLLATE utf8mb4_bin IN (_utf8mb4 X'61'))");
    assert_eq!(c.equals(Side::Ghost, &k), "(`b` = _utf8mb4 X'61' AND `b` COLLATE utf8mb4_bin = _utf8mb4 X'61')");
    assert_eq!(c.range(Side::Ghost, &KeyRange { lo: Some(k.clone()), hi: None }), "`b` COLLATE utf8mb4_bin > _utf8mb4 X'61'");
    assert!(!c.same_order());
    let c = codec(&[text("b", NAME, "latin1_bin")], &[text("x", NAME, "utf8mb4_bin")], &["b"]);
    assert_eq!(c.select_list(Side::Ghost), "CAST(CONVERT(`x` USING latin1) AS BINARY)");
    assert_eq!(c.order_by(Side::Ghost), "CONVERT(`x` USING latin1) COLLATE latin1_bin");
    assert_eq!(c.columns(Side::Ghost), "`x`");
}

#[test]
fn enums_are_neither_rows_nor_ranges() {
    let labels = || ["x", "y", "z"].map(str::to_owned).to_vec();
    let columns = [column("e", ColumnType::Enum { labels: labels() }), column("a", INT)];
    let c = same(&columns, &["e", "a"]);
    assert_eq!(c.select_list(Side::Original), "CAST(`e` AS UNSIGNED), `a`");
    let k = |e: u64, a: i64| key(&c, &[Value::UInt(e), Value::Int(a)]);
    assert_eq!(c.in_list(Side::Original, [&k(1, 2), &k(3, 4)].into_iter()), "((`e` = 1 AND `a` = 2) OR (`e` = 3 AND `a` = 4))");
    let range = KeyRange { lo: Some(k(2, 5)), hi: None };
    assert_eq!(c.range(Side::Original, &range), "(`e` IN (2, 3) AND (`e` IN (3) OR (`e` = 2 AND `a` > 5)))");
    let alone = same(&columns, &["-e"]);
    let (one, three) = (key(&alone, &[Value::UInt(1)]), key(&alone, &[Value::UInt(3)]));
    assert_eq!(alone.in_list(Side::Original, [&one].into_iter()), "`e` IN (1)");
    assert_eq!(alone.range(Side::Original, &KeyRange { lo: Some(one), hi: None }), "`e` IN (0)");
    assert_eq!(alone.range(Side::Original, &KeyRange { lo: None, hi: Some(three) }), "`e` IN (3)");
}

#[test]
fn what_is_no_key() {
    let c = same(&[column("a", INT), column("b", BYTES)], &["a", "b"]);
    assert_eq!(c.encode_row(&[Value::Int(1)]), Err(KeyError::WrongCount { expected: 2, found: 1 }));
    assert!(matches!(c.encode_binlog(&[Value::NULL, bytes(b"x")]), Err(KeyError::UnexpectedValue { column, .. }) if column == "a"));
    let bad = Key::from_bytes(&[1, 2, 3]);
    assert_eq!(c.check(&bad), Err(KeyError::Malformed));
    assert_eq!(c.tuple(&bad), "(`not a key of this table`, `not a key of this table`)");
    assert_eq!(c.check(&key(&c, &[Value::Int(1), bytes(b"")])), Ok(()));
}

#[test]
fn ranges_are_stored_as_text() {
    let range = KeyRange { lo: None, hi: Some(Key::from_bytes(&[0, 255])) };
    let stored = serde_json::to_string(&range).expect("json");
    assert_eq!(stored, r#"{"lo":null,"hi":"00FF"}"#);
    assert_eq!(serde_json::from_str::<KeyRange>(&stored).expect("a range"), range);
    assert!(serde_json::from_str::<KeyRange>(r#"{"lo":"0","hi":null}"#).is_err());
    assert_eq!(size_of::<Key>(), 24);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Tuples of bytes keep MySQL's order: column by column, shorter first, each turned round where the index is.
    #[test]
    fn composites_keep_their_order(
        a in (prop::collection::vec(0_u8..3, 0..4), any::<i8>(), prop::collection::vec(0_u8..3, 0..4)),
        b in (prop::collection::vec(0_u8..3, 0..4), any::<i8>(), prop::collection::vec(0_u8..3, 0..4)),
        turned in any::<(bool, bool, bool)>(),
    ) {
        let columns = [column("x", BYTES), column("y", INT), column("z", BYTES)];
        let name = |n: &str, d: bool| format!("{}{n}", if d { "-" } else { "" });
        let names = [name("x", turned.0), name("y", turned.1), name("z", turned.2)];
        let c = same(&columns, &names.iter().map(String::as_str).collect::<Vec<_>>());
        let k = |v: &(Vec<u8>, i8, Vec<u8>)| key(&c, &[bytes(&v.0), Value::Int(i64::from(v.1)), bytes(&v.2)]);
        let turn = |o: Ordering, d: bool| if d { o.reverse() } else { o };
        let expected = turn(a.0.cmp(&b.0), turned.0).then(turn(a.1.cmp(&b.1), turned.1)).then(turn(a.2.cmp(&b.2), turned.2));
        prop_assert_eq!(c.compare(&k(&a), &k(&b)), Some(expected));
        prop_assert_eq!(k(&a) == k(&b), a == b);
        prop_assert_eq!(c.check(&k(&a)), Ok(()));
    }

    #[test]
    fn nothing_panics_on_foreign_bytes(raw in prop::collection::vec(prop::sample::select(vec![0_u8, 1, 254, 255]), 0..24)) {
        let columns = [column("x", BYTES), column("y", INT), text("z", NAME, "utf8mb4_0900_ai_ci")];
        for names in [["x", "y", "z"], ["-z", "-x", "y"], ["y", "z", "-x"]] {
            let c = same(&columns, &names);
            let k = Key::from_bytes(&raw);
            let _ = (c.check(&k), c.tuple(&k), c.compare(&k, &Key::from_bytes(&[])));
            let _ = c.classify_sql(std::slice::from_ref(&k), Some(&k), &[KeyRange { lo: Some(k.clone()), hi: None }]);
            let _ = c.range(Side::Original, &KeyRange { lo: None, hi: Some(k) });
        }
    }
}
