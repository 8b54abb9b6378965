use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Alter {
    Alter::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn clauses(text: &str) -> Vec<Clause> {
    parse(text).clauses().iter().map(|c| c.clause.clone()).collect()
}

fn column(name: &str) -> ColumnSpec {
    ColumnSpec { name: name.into(), position: None, attributes: ColumnAttributes::default() }
}

fn add(element: TableElement) -> Clause {
    Clause::Add { elements: vec![element] }
}

fn index(name: Option<&str>, unique: bool, columns: &[&str]) -> AddedIndex {
    let parts = columns.iter().map(|c| IndexPart { column: Some((*c).into()), prefix: None, descending: false });
    AddedIndex { name: name.map(Into::into), unique, kind: IndexKind::BTree, parts: parts.collect() }
}

use crate::sql::table::IndexPart;

fn option(name: &str, value: &str) -> Clause {
    Clause::TableOption { name: name.into(), value: value.into() }
}

#[test]
fn one_clause() {
    let c = |s: &str| s.to_owned();
    let after = |name: &str, after: &str| ColumnSpec { position: Some(Position::After(after.into())), ..column(name) };
    let with = |name: &str, attributes: ColumnAttributes| ColumnSpec { attributes, ..column(name) };
    let none = ColumnAttributes::default;
    for (text, expected) in [
        ("ADD COLUMN a INT", add(TableElement::Column(column("a")))),
        ("add a int default 'x,y' after `b``c`", add(TableElement::Column(after("a", "b`c")))),
        ("ADD a ENUM('first','after') FIRST", add(TableElement::Column(ColumnSpec { position: Some(Position::First), ..column("a") }))),
        ("ADD COLUMN after INT AFTER first", add(TableElement::Column(after("after", "first")))),
        (
            "ADD id BIGINT AUTO_INCREMENT PRIMARY KEY",
            add(TableElement::Column(with("id", ColumnAttributes { auto_increment: true, primary: true, ..none() }))),
        ),
        ("ADD a INT UNIQUE KEY COMMENT 'primary'", add(TableElement::Column(with("a", ColumnAttributes { unique: true, ..none() })))),
        ("ADD a INT AS (b + 1) STORED", add(TableElement::Column(with("a", ColumnAttributes { generated: true, ..none() })))),
        ("ADD a INT CHECK (a > 0)", add(TableElement::Column(with("a", ColumnAttributes { check: true, ..none() })))),
        ("DROP COLUMN a", Clause::DropColumn { name: c("a") }),
        ("DROP `primary` CASCADE", Clause::DropColumn { name: c("primary") }),
        ("MODIFY a BIGINT", Clause::ModifyColumn(column("a"))),
        ("MODIFY COLUMN a BIGINT AFTER b", Clause::ModifyColumn(after("a", "b"))),
        ("CHANGE a b INT", Clause::ChangeColumn { old: c("a"), new: column("b") }),
        ("CHANGE COLUMN a a INT AFTER c", Clause::ChangeColumn { old: c("a"), new: after("a", "c") }),
        ("RENAME COLUMN a TO b", Clause::RenameColumn { old: c("a"), new: c("b") }),
        ("ALTER a SET DEFAULT (now())", Clause::AlterColumnDefault { name: c("a") }),
        ("ALTER COLUMN a DROP DEFAULT", Clause::AlterColumnDefault { name: c("a") }),
        ("ALTER a SET INVISIBLE", Clause::AlterColumnVisibility { name: c("a"), visible: false }),
        ("ADD INDEX (a)", add(TableElement::Index(index(None, false, &["a"])))),
        ("ADD KEY k USING BTREE (a, b) COMMENT 'x' INVISIBLE", add(TableElement::Index(index(Some("k"), false, &["a", "b"])))),
        ("ADD UNIQUE u (a)", add(TableElement::Index(index(Some("u"), true, &["a"])))),
        ("ADD CONSTRAINT s UNIQUE KEY (a)", add(TableElement::Index(index(Some("s"), true, &["a"])))),
        ("ADD CONSTRAINT UNIQUE KEY u (a) USING BTREE", add(TableElement::Index(index(Some("u"), true, &["a"])))),
        (
            "ADD FULLTEXT f (a) WITH PARSER ngram",
            add(TableElement::Index(AddedIndex { kind: IndexKind::FullText, ..index(Some("f"), false, &["a"]) })),
        ),
        ("ADD SPATIAL INDEX (g)", add(TableElement::Index(AddedIndex { kind: IndexKind::Spatial, ..index(None, false, &["g"]) }))),
        ("ADD PRIMARY KEY (a)", add(TableElement::PrimaryKey { parts: index(None, true, &["a"]).parts })),
        ("ADD CONSTRAINT `PRIMARY` PRIMARY KEY USING BTREE (a)", add(TableElement::PrimaryKey { parts: index(None, true, &["a"]).parts })),
        ("DROP PRIMARY KEY", Clause::DropPrimaryKey),
        ("DROP KEY k", Clause::DropIndex { name: c("k") }),
        ("DROP INDEX `PRIMARY`", Clause::DropIndex { name: c("PRIMARY") }),
        ("RENAME KEY a TO b", Clause::RenameIndex { old: c("a"), new: c("b") }),
        ("ALTER INDEX k VISIBLE", Clause::AlterIndexVisibility { name: c("k"), visible: true }),
        ("ADD CHECK (a > 0 AND (b, c) = (1, 2))", add(TableElement::Check { name: None })),
        ("ADD CONSTRAINT CHECK (a > 0) NOT ENFORCED", add(TableElement::Check { name: None })),
        ("ADD CONSTRAINT c CHECK (a > 0) ENFORCED", add(TableElement::Check { name: Some(c("c")) })),
        ("DROP CHECK c", Clause::DropCheck { name: c("c") }),
        ("DROP CONSTRAINT c", Clause::DropConstraint { name: c("c") }),
        ("ALTER CHECK c NOT ENFORCED", Clause::AlterCheck { name: c("c"), enforced: false }),
        ("ALTER CONSTRAINT c ENFORCED", Clause::AlterCheck { name: c("c"), enforced: true }),
        (
            "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            Clause::ConvertToCharset { charset: c("utf8mb4"), collation: Some(c("utf8mb4_bin")) },
        ),
        ("CONVERT TO CHARSET DEFAULT", Clause::ConvertToCharset { charset: c("DEFAULT"), collation: None }),
        ("ENGINE=InnoDB", option("ENGINE", "InnoDB")),
        ("DEFAULT CHARACTER SET = latin1", option("CHARSET", "latin1")),
        ("COMMENT 'it''s, a'", option("COMMENT", "it's, a")),
        ("AUTO_INCREMENT 100", option("AUTO_INCREMENT", "100")),
        ("DATA DIRECTORY '/x'", option("DATA DIRECTORY", "/x")),
        ("FORCE", Clause::Force),
        ("ORDER BY a, t.b DESC, `c`", Clause::OrderBy),
        ("DISABLE KEYS", Clause::Keys),
        ("WITHOUT VALIDATION", Clause::Validation),
        ("PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (1), PARTITION p1 VALUES LESS THAN MAXVALUE)", Clause::PartitionBy),
        ("REMOVE PARTITIONING", Clause::RemovePartitioning),
        ("ADD PARTITION (PARTITION p1 VALUES LESS THAN (2))", Clause::RearrangePartition { verb: "ADD" }),
        ("REORGANIZE PARTITION p0, p1 INTO (PARTITION p VALUES LESS THAN (2))", Clause::RearrangePartition { verb: "REORGANIZE" }),
        ("COALESCE PARTITION 2", Clause::RearrangePartition { verb: "COALESCE" }),
        ("DROP PARTITION p0, p1", Clause::ChangePartitionData { verb: "DROP" }),
        ("TRUNCATE PARTITION ALL", Clause::ChangePartitionData { verb: "TRUNCATE" }),
        ("EXCHANGE PARTITION p WITH TABLE t", Clause::ChangePartitionData { verb: "EXCHANGE" }),
        ("IMPORT PARTITION p TABLESPACE", Clause::ChangePartitionData { verb: "IMPORT" }),
        ("ANALYZE PARTITION p", Clause::MaintainPartition { verb: "ANALYZE" }),
        ("RENAME t2", Clause::RenameTable { new: c("t2") }),
        ("RENAME TO db.t2", Clause::RenameTable { new: c("db.t2") }),
        ("ALGORITHM=INPLACE", Clause::Algorithm),
        ("LOCK NONE", Clause::Lock),
        ("DISCARD TABLESPACE", Clause::Tablespace),
    ] {
        assert_eq!(clauses(text), vec![expected], "{text}");
    }
}

#[test]
fn several_clauses() {
    assert_eq!(
        clauses("ADD COLUMN (a INT, b DECIMAL(10,2) DEFAULT '1,2', KEY k (a, b)), DROP c"),
        vec![
            Clause::Add {
                elements: vec![
                    TableElement::Column(column("a")),
                    TableElement::Column(column("b")),
                    TableElement::Index(index(Some("k"), false, &["a", "b"])),
                ]
            },
            Clause::DropColumn { name: "c".into() },
        ]
    );
    assert_eq!(
        clauses("ENGINE=InnoDB ROW_FORMAT=DYNAMIC, DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_bin"),
        vec![option("ENGINE", "InnoDB"), option("ROW_FORMAT", "DYNAMIC"), option("CHARSET", "utf8mb4"), option("COLLATE", "utf8mb4_bin")]
    );
    assert_eq!(clauses("ORDER BY a, ADD b INT, FORCE").len(), 3);
    let text = "ADD a INT NOT NULL /* x, */ PARTITION BY HASH (a) PARTITIONS 4";
    assert_eq!(clauses(text), vec![add(TableElement::Column(column("a"))), Clause::PartitionBy]);
    assert_eq!(parse(text).to_sql(), "ADD a INT NOT NULL PARTITION BY HASH (a) PARTITIONS 4");
    assert_eq!(parse("DROP a REMOVE PARTITIONING").to_sql(), "DROP a REMOVE PARTITIONING");
    assert_eq!(parse("\n ADD  a\tINT -- why\n,\n DROP b # x").to_sql(), "ADD a INT, DROP b");
}

/// The server takes `ALGORITHM` before every clause, and behind some of them it does not.
#[test]
fn how_it_is_done_stands_first() {
    for (text, want) in [
        ("ADD a INT, DROP b", "ALGORITHM=COPY, ADD a INT, DROP b"),
        ("COALESCE PARTITION 2", "ALGORITHM=COPY, COALESCE PARTITION 2"),
        ("/* all */ partition BY HASH (a)", "ALGORITHM=COPY partition BY HASH (a)"),
        ("REMOVE PARTITIONING", "ALGORITHM=COPY REMOVE PARTITIONING"),
        ("ADD a INT REMOVE PARTITIONING", "ALGORITHM=COPY, ADD a INT REMOVE PARTITIONING"),
    ] {
        assert_eq!(done_by("ALGORITHM=COPY", &parse(text).to_sql()), want);
    }
}

#[test]
fn columns_and_the_rest_are_two_parts() {
    for (text, want) in [
        ("ADD a INT, ADD INDEX (a), DROP b", Some(("ADD a INT, DROP b", "ADD INDEX (a)"))),
        ("COMMENT='x', ADD (a INT, b INT), RENAME COLUMN c TO d", Some(("ADD (a INT, b INT), RENAME COLUMN c TO d", "COMMENT='x'"))),
        ("ADD a INT UNIQUE, ADD b INT", Some(("ADD b INT", "ADD a INT UNIQUE"))),
        ("ADD (a INT, INDEX (a)), DROP INDEX b", None),
        ("RENAME COLUMN a TO b, ADD INDEX (b)", None),
        ("ADD a INT, DROP b", None),
        ("ADD a INT, ADD INDEX (a) PARTITION BY HASH (a)", None),
        ("ADD INDEX (a)", None),
    ] {
        let parts = parse(text).parts().map(|(first, second)| (first.to_sql(), second.to_sql()));
        assert_eq!(parts.as_ref().map(|(first, second)| (first.as_str(), second.as_str())), want, "{text}");
    }
}

#[test]
fn spans_are_the_clauses() {
    let text = "ADD é INT , DROP b";
    let parsed = parse(text);
    let spans: Vec<_> = parsed.clauses().iter().map(|c| c.span.of(text)).collect();
    assert_eq!(spans, ["ADD é INT", "DROP b"]);
}

#[test]
fn what_is_not_understood() {
    for (text, position, message) in [
        ("ALTER TABLE t ADD a INT", 1, "leave out ALTER TABLE"),
        ("alter table db.t drop a", 1, "leave out ALTER TABLE"),
        ("ADD a INT;", 10, "one statement"),
        ("ADD a INT; DROP TABLE t", 10, "one statement"),
        ("ADD a INT /*!80016 INVISIBLE */", 11, "executable comments"),
        ("/*+ x */ ADD a INT", 1, "hints"),
        ("ADD a INT,", 10, "a clause is missing"),
        (", ADD a INT", 1, "a clause is missing"),
        ("ADD a", 6, "definition of the column"),
        ("ADD COLUMN IF NOT EXISTS a INT", 12, "IF [NOT] EXISTS"),
        ("ADD COLUMN 'a' INT", 12, "backticks"),
        ("DROP TABLE t", 6, "TABLE needs backticks"),
        ("DROP COLUMN a b", 15, "expected to end here"),
        ("DROP COLUMN t.a", 14, "expected to end here"),
        ("CREATE TABLE t (a INT)", 1, "not an ALTER TABLE clause"),
        ("ADD a INT)", 10, "not opened"),
        ("ADD a DECIMAL(10", 17, "not closed"),
        ("ADD INDEX k", 12, "columns of the index"),
        ("ADD INDEX k (a) FOO", 17, "expected to end here"),
        ("ADD COLUMN (a INT, )", 20, "name of a column"),
        ("MODIFY a INT AFTER b c", 22, "expected to end here"),
        ("ALTER a SET NULL", 13, "DEFAULT was expected"),
        ("'x'", 1, "begins with a keyword"),
        ("ENGINE", 7, "a value was expected"),
        ("ENGINE=InnoDB DROP a", 15, "expected to end here"),
    ] {
        match Alter::parse(text) {
            Err(AlterError::Syntax { position: p, message: m, .. }) => {
                assert_eq!(p, position, "{text}: {m}");
                assert!(m.contains(message), "{text}: {m}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    assert_eq!(Alter::parse(" -- nothing\n"), Err(AlterError::Empty));
    assert!(matches!(Alter::parse("ADD a INT COMMENT 'x"), Err(AlterError::Token(_))));
}

#[test]
fn what_is_refused() {
    for (text, kind) in [
        ("RENAME TO t2", RefusalKind::RenameTable),
        ("ADD a INT, ALGORITHM=INSTANT", RefusalKind::AlgorithmClause),
        ("LOCK=NONE", RefusalKind::AlgorithmClause),
        ("DROP PARTITION p", RefusalKind::PartitionData),
        ("TRUNCATE PARTITION p", RefusalKind::PartitionData),
        ("OPTIMIZE PARTITION p", RefusalKind::PartitionMaintenance),
        ("IMPORT TABLESPACE", RefusalKind::Tablespace),
        ("ENGINE = MyISAM", RefusalKind::StorageEngine),
        ("SECONDARY_LOAD", RefusalKind::SecondaryEngine),
    ] {
        let kinds: Vec<_> = parse(text).refusals().into_iter().map(|r| r.kind).collect();
        assert_eq!(kinds, [kind], "{text}");
    }
    assert_eq!(parse("ENGINE='innodb', ADD a INT, ADD INDEX (a), REORGANIZE PARTITION").refusals(), []);
}

#[test]
fn helpers() {
    let alter = parse(
        "CHANGE a b INT, CHANGE `b` a INT, RENAME COLUMN c TO d, CHANGE e e BIGINT, DROP f, ADD f INT, ADD g INT AUTO_INCREMENT, ADD UNIQUE u (g), AUTO_INCREMENT=5",
    );
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(alter.renames(), [pair("a", "b"), pair("b", "a"), pair("c", "d")]);
    assert_eq!(alter.dropped_columns(), ["f"]);
    assert_eq!(alter.added_columns(), ["f", "g"]);
    assert_eq!(alter.added_auto_increment_columns(), ["g"]);
    assert_eq!(alter.added_secondary_indexes(), [index(Some("u"), true, &["g"])]);
    assert!(alter.sets_auto_increment());
    assert!(!parse("ADD a INT AUTO_INCREMENT").sets_auto_increment());
}

#[test]
fn check_names_are_rewritten() {
    let map = BTreeMap::from([("C1".to_owned(), "_t_gho_chk_c1".to_owned()), ("t_chk_1".to_owned(), "g`1".to_owned())]);
    for (text, expected) in [
        ("DROP CHECK c1, ALTER CONSTRAINT `t_chk_1` NOT ENFORCED", "DROP CHECK `_t_gho_chk_c1`, ALTER CONSTRAINT `g``1` NOT ENFORCED"),
        (
            "DROP CONSTRAINT c1, ADD CONSTRAINT c1 CHECK (c1 > 0)",
            "DROP CONSTRAINT `_t_gho_chk_c1`, ADD CONSTRAINT `_t_gho_chk_c1` CHECK (c1 > 0)",
        ),
        ("ADD a INT CONSTRAINT c1 CHECK (a > 0)", "ADD a INT CONSTRAINT `_t_gho_chk_c1` CHECK (a > 0)"),
        ("DROP CHECK other, DROP COLUMN c1, DROP INDEX c1", "DROP CHECK other, DROP COLUMN c1, DROP INDEX c1"),
        ("ADD CONSTRAINT c1 UNIQUE (a)", "ADD CONSTRAINT c1 UNIQUE (a)"),
    ] {
        assert_eq!(parse(text).with_check_names(&map), expected);
    }
}

const CORPUS: [&str; 12] = [
    "ADD COLUMN (a INT, b DECIMAL(10,2) DEFAULT '1,2', KEY k (a, b(10) DESC)), DROP c",
    "CHANGE a b INT NOT NULL DEFAULT 0 AFTER `c``d`, MODIFY e VARCHAR(10) CHARACTER SET latin1 FIRST",
    "ADD CONSTRAINT c CHECK (json_valid(a) OR a ->> '$.x' = \"y\") NOT ENFORCED, DROP CHECK d",
    "PARTITION BY RANGE COLUMNS(a, b) (PARTITION p0 VALUES LESS THAN (1, 2), PARTITION p1 VALUES LESS THAN (MAXVALUE, MAXVALUE))",
    "ADD a INT GENERATED ALWAYS AS (b + 1) STORED NOT NULL UNIQUE KEY COMMENT 'x', ADD INDEX ((lower(c)), d DESC) INVISIBLE",
    "ENGINE=InnoDB ROW_FORMAT=DYNAMIC, DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_bin COMMENT='x'",
    "ORDER BY a, t.b DESC, ADD c INT",
    "REORGANIZE PARTITION p0, p1 INTO (PARTITION p VALUES LESS THAN (2))",
    "RENAME COLUMN a TO b, RENAME INDEX c TO d, ALTER e SET DEFAULT 'x', ALTER INDEX f INVISIBLE, ALTER CHECK g ENFORCED",
    "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci, FORCE, ALGORITHM=COPY, LOCK=SHARED",
    "ADD FOREIGN KEY f (a) REFERENCES p (id) ON DELETE SET NULL, ADD PRIMARY KEY (a), DROP PRIMARY KEY",
    "ADD FULLTEXT INDEX f (a, b) WITH PARSER ngram COMMENT 'x' /* c */ -- d\n",
];

/// A text that is parsed says the same when written out and parsed again.
fn holds(text: &str) {
    if let Ok(alter) = Alter::parse(text) {
        let _ = alter.refusals();
        let again = Alter::parse(&alter.to_sql()).unwrap_or_else(|e| panic!("{text:?} gives {:?}: {e}", alter.to_sql()));
        let kinds = |a: &Alter| a.clauses().iter().map(|c| c.clause.clone()).collect::<Vec<_>>();
        assert_eq!(kinds(&alter), kinds(&again), "{text:?}");
        assert_eq!(alter.to_sql(), again.to_sql());
    }
}

#[test]
fn the_corpus_is_understood() {
    for text in CORPUS {
        assert!(Alter::parse(text).is_ok(), "{text}");
        holds(text);
    }
    // A name that reads like a clause of its own.
    for text in ["CHARSET PARTITION ENGINE INDEX", "ENGINE PARTITION, ADD a INT", "COMMENT='x', ENGINE PARTITION COLLATE a"] {
        holds(text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn never_panics_on_anything(text in "\\PC*") {
        holds(&text);
    }

    #[test]
    fn never_panics_on_words(words in prop::collection::vec(prop::sample::select(vec![
        "ADD", "DROP", "COLUMN", "a", "`b`", "INT", ",", "(", ")", "INDEX", "KEY", "UNIQUE", "PRIMARY", "CHECK", "CONSTRAINT",
        "PARTITION", "BY", "RENAME", "TO", "CHANGE", "MODIFY", "ALTER", "SET", "DEFAULT", "FIRST", "AFTER", "ENGINE", "=", "'x'",
        "REMOVE", "PARTITIONING", "ORDER", "1", "FOREIGN", "REFERENCES", "NOT", "ENFORCED", ".", "CHARSET", "CONVERT", "UNION",
    ]), 0..14)) {
        holds(&words.join(" "));
    }

    #[test]
    fn never_panics_on_mutations(
        which in 0..CORPUS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, prop::sample::select(vec!['\'', '`', '(', ')', ',', ';', '*', '/', 'é', ' ', '"', '\\', 'x'])), 1..5),
    ) {
        let mut text: Vec<char> = CORPUS[which].chars().collect();
        for (at, what, character) in edits {
            if text.is_empty() { break; }
            let at = at.index(text.len());
            match what {
                0 => { text.remove(at); }
                1 => text.insert(at, character),
                _ => text[at] = character,
            }
        }
        holds(&text.into_iter().collect::<String>());
    }
}

/// A clone has no foreign keys: clauses that drop one are left out for it, and nothing else is.
#[test]
fn foreign_keys_are_dropped_on_the_table_alone() {
    let keys = ["to_p".to_owned(), "To u".to_owned()];
    for (alter, clone, after, unknown) in [
        ("DROP FOREIGN KEY to_p, DROP INDEX i", "DROP INDEX i", &["To u"][..], &[][..]),
        ("ADD a INT, DROP CONSTRAINT `to U`", "ADD a INT", &["to_p"], &[]),
        ("DROP FOREIGN KEY to_p, DROP FOREIGN KEY `To u`", "", &[], &[]),
        ("DROP CONSTRAINT c, DROP FOREIGN KEY x", "DROP CONSTRAINT c, DROP FOREIGN KEY x", &["to_p", "To u"], &["x"]),
    ] {
        let parsed = Alter::parse(alter).unwrap();
        assert_eq!(parsed.for_clone(&BTreeMap::new(), &keys), clone, "{alter}");
        assert_eq!(parsed.foreign_keys_after(&keys), after, "{alter}");
        assert_eq!(parsed.unknown_foreign_keys(&keys), unknown, "{alter}");
        assert_eq!(parsed.drops_foreign_keys(&keys), after.len() < keys.len(), "{alter}");
        assert_eq!(parsed.to_sql(), alter, "the table itself gets them all");
    }
}
