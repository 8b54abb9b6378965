//! Tables of definitions and the clauses that lead from one to the other; what is refused.
use super::*;
use crate::sql::token::Grammar;
use proptest::prelude::*;

const OPTIONS: &str = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci";

fn shown_with(elements: &[&str], options: &str) -> Shown {
    let text = format!("CREATE TABLE `t` (\n  {}\n) {options}", elements.join(",\n  "));
    Shown::parse(&text, "d", |name| (!name.starts_with("auto")).then(|| name.to_owned())).unwrap()
}

fn shown(elements: &[&str]) -> Shown {
    shown_with(elements, OPTIONS)
}

fn clauses(present: &[&str], desired: &[&str]) -> Derived {
    derive(&shown(present), &shown(desired), &[], ("d", "t"), false, false).unwrap()
}

const A: &str = "`a` int NOT NULL";
const B: &str = "`b` varchar(20) DEFAULT NULL";
const C: &str = "`c` int DEFAULT '0'";
const D: &str = "`d` date DEFAULT NULL";
const PK: &str = "PRIMARY KEY (`a`)";

#[test]
fn columns_come_go_change_and_move() {
    let e = "`e` text COMMENT 'it''s, (e'";
    for (present, desired, want) in [
        (vec![A, B, PK], vec![A, B, PK], ""),
        (vec![A, B], vec![A, B, C], "ADD COLUMN `c` int DEFAULT '0'"),
        (vec![A, B], vec![C, A, B], "ADD COLUMN `c` int DEFAULT '0' FIRST"),
        (vec![A, B], vec![A, C, D, B], "ADD COLUMN `c` int DEFAULT '0' AFTER `a`, ADD COLUMN `d` date DEFAULT NULL AFTER `c`"),
        (vec![A, B, C], vec![A, C], "DROP COLUMN `b`"),
        (vec![A, B], vec![A, "`b` varchar(30) DEFAULT NULL"], "MODIFY COLUMN `b` varchar(30) DEFAULT NULL"),
        (vec![A, B], vec![A, "`B` varchar(20) DEFAULT NULL"], "CHANGE COLUMN `b` `B` varchar(20) DEFAULT NULL"),
        // One moves, not three.
        (vec![A, B, C, D], vec![B, C, D, A], "MODIFY COLUMN `a` int NOT NULL AFTER `d`"),
        (vec![A, B, C, D], vec![D, A, B, C], "MODIFY COLUMN `d` date DEFAULT NULL FIRST"),
        (
            vec![A, B, C, D],
            vec![A, D, e, B, C],
            "MODIFY COLUMN `d` date DEFAULT NULL AFTER `a`, ADD COLUMN `e` text COMMENT 'it''s, (e' AFTER `d`",
        ),
        (vec![A, B], vec![A, "`b` varchar(20) DEFAULT NULL /*!80023 INVISIBLE */"], "MODIFY COLUMN `b` varchar(20) DEFAULT NULL INVISIBLE"),
        (
            vec![A, "`g` int GENERATED ALWAYS AS ((`a` + 1)) VIRTUAL"],
            vec![A, "`g` int GENERATED ALWAYS AS ((`a` + 2)) VIRTUAL"],
            "MODIFY COLUMN `g` int GENERATED ALWAYS AS ((`a` + 2)) VIRTUAL",
        ),
        // The server changes neither into the other.
        (
            vec![A, "`g` int GENERATED ALWAYS AS ((`a` + 1)) VIRTUAL", B, "KEY `k` (`g`)", "KEY `b` (`b`)"],
            vec![A, "`g` int GENERATED ALWAYS AS ((`a` + 1)) STORED", B, "KEY `b` (`b`)", "KEY `k` (`g`)"],
            "DROP INDEX `k`, DROP COLUMN `g`, ADD COLUMN `g` int GENERATED ALWAYS AS ((`a` + 1)) STORED AFTER `a`, ADD KEY `k` (`g`)",
        ),
    ] {
        assert_eq!(clauses(&present, &desired).clauses, want, "{present:?} to {desired:?}");
    }
}

#[test]
fn indexes_stay_where_they_can() {
    let (x, y, z) = ("KEY `x` (`a`)", "KEY `y` (`b`)", "KEY `z` (`c`)");
    let all = |indexes: &[&'static str]| [&[A, B, C, PK], indexes].concat();
    for (present, desired, want) in [
        (vec![x], vec![x, y], "ADD KEY `y` (`b`)"),
        (vec![x, y], vec![y], "DROP INDEX `x`"),
        // What comes in between puts what follows behind it.
        (vec![x, z], vec![x, y, z], "DROP INDEX `z`, ADD KEY `y` (`b`), ADD KEY `z` (`c`)"),
        (vec![x, z], vec!["UNIQUE KEY `u` (`a`,`b`)", x, z], "ADD UNIQUE KEY `u` (`a`,`b`)"),
        (vec![x], vec!["KEY `x` (`a`) /*!80000 INVISIBLE */"], "ALTER INDEX `x` INVISIBLE"),
        (vec!["KEY `x` (`a`) /*!80000 INVISIBLE */"], vec![x], "ALTER INDEX `x` VISIBLE"),
        (vec![x], vec!["KEY `x` (`a`,`b`)"], "DROP INDEX `x`, ADD KEY `x` (`a`,`b`)"),
        (vec![x], vec!["KEY `x` (`a`) COMMENT 'c'"], "DROP INDEX `x`, ADD KEY `x` (`a`) COMMENT 'c'"),
        // The same index under another name loses nothing.
        (vec![x], vec!["KEY `w` (`a`)"], "RENAME INDEX `x` TO `w`"),
        (vec![x, "KEY `x2` (`a`)"], vec!["KEY `w` (`a`)"], "DROP INDEX `x`, DROP INDEX `x2`, ADD KEY `w` (`a`)"),
        (
            vec!["FULLTEXT KEY `f` (`b`)"],
            vec!["FULLTEXT KEY `f` (`b`) /*!50100 WITH PARSER `ngram` */ "],
            "DROP INDEX `f`, ADD FULLTEXT KEY `f` (`b`) WITH PARSER `ngram`",
        ),
        (vec![x], vec!["KEY `x` ((lower(`b`)))"], "DROP INDEX `x`, ADD KEY `x` ((lower(`b`)))"),
    ] {
        assert_eq!(clauses(&all(&present), &all(&desired)).clauses, want, "{present:?} to {desired:?}");
    }
    let (present, desired) = (shown(&all(&[x, y])), shown(&all(&[x, y])));
    let all = derive(&present, &desired, &[], ("d", "t"), false, true).unwrap();
    assert_eq!(all.clauses, "DROP INDEX `x`, DROP INDEX `y`, ADD KEY `x` (`a`), ADD KEY `y` (`b`)");
    assert_eq!(clauses(&[A, B, PK], &[A, B, "PRIMARY KEY (`a`,`b`)"]).clauses, "DROP PRIMARY KEY, ADD PRIMARY KEY (`a`,`b`)");
}

#[test]
fn constraints_of_any_name() {
    let c = "CONSTRAINT `c` CHECK ((`a` > 0))";
    for (present, desired, want) in [
        (c, "CONSTRAINT `C` CHECK ((`a` > 0))", ""),
        ("CONSTRAINT `t_chk_c` CHECK ((`a` > 0))", c, ""),
        ("CONSTRAINT `t_chk_1` CHECK ((`a` > 0))", "CONSTRAINT `auto` CHECK ((`a` > 0))", ""),
        (c, "CONSTRAINT `c` CHECK ((`a` > 0)) /*!80016 NOT ENFORCED */", "ALTER CHECK `c` NOT ENFORCED"),
        ("CONSTRAINT `c` CHECK ((`a` > 0)) /*!80016 NOT ENFORCED */", c, "ALTER CHECK `c` ENFORCED"),
        (c, "CONSTRAINT `c` CHECK ((`a` > 1))", "DROP CHECK `c`, ADD CONSTRAINT `c` CHECK ((`a` > 1))"),
        (c, "CONSTRAINT `auto` CHECK ((`a` > 1))", "DROP CHECK `c`, ADD CHECK ((`a` > 1))"),
        (c, "CONSTRAINT `e` CHECK ((`a` > 0))", "DROP CHECK `c`, ADD CONSTRAINT `e` CHECK ((`a` > 0))"),
    ] {
        assert_eq!(clauses(&[A, PK, present], &[A, PK, desired]).clauses, want, "{present} to {desired}");
    }
}

#[test]
fn options_and_character_sets() {
    let table = |column: &'static str, options: &str| shown_with(&[A, column], options);
    let latin1 = "ENGINE=InnoDB DEFAULT CHARSET=latin1";
    let partitions = format!("{OPTIONS}\n/*!50100 PARTITION BY RANGE (`a`)\n(PARTITION p0 VALUES LESS THAN (10) ENGINE = InnoDB) */");
    for (present, desired, want) in [
        (table(C, OPTIONS), table(C, &format!("{OPTIONS} COMMENT='x'")), "COMMENT='x'"),
        (
            table(C, &format!("{OPTIONS} ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8 COMMENT='x'")),
            table(C, OPTIONS),
            "ROW_FORMAT=DEFAULT, KEY_BLOCK_SIZE=0, COMMENT=''",
        ),
        (table(C, "ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=latin1"), table(C, latin1), ""),
        // The column is as the table's default says.
        (
            table(B, latin1),
            table(B, OPTIONS),
            "MODIFY COLUMN `b` varchar(20) DEFAULT NULL, DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci",
        ),
        // A collation that is the table's is not written.
        (
            table(B, latin1),
            table("`b` varchar(20) COLLATE utf8mb4_bin DEFAULT NULL", "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"),
            "MODIFY COLUMN `b` varchar(20) DEFAULT NULL, DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
        ),
        (table(C, latin1), table(C, OPTIONS), "DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci"),
        (
            table("`b` varchar(20) CHARACTER SET latin1", OPTIONS),
            table("`b` varchar(20) CHARACTER SET latin1", latin1),
            "DEFAULT CHARSET=latin1",
        ),
        (table(C, OPTIONS), table(C, &partitions), "PARTITION BY RANGE (`a`) (PARTITION p0 VALUES LESS THAN (10) ENGINE = InnoDB)"),
        (table(C, &partitions), table(C, OPTIONS), "REMOVE PARTITIONING"),
        (table(C, &partitions), table(C, &partitions), ""),
    ] {
        let found = derive(&present, &desired, &[], ("d", "t"), false, false).unwrap();
        assert_eq!(found.clauses, want);
    }
    let found = derive(&table(C, &format!("{OPTIONS} DATA DIRECTORY='/x/'")), &table(C, OPTIONS), &[], ("d", "t"), false, false);
    assert!(found.unwrap_err().to_string().contains("DATA DIRECTORY"));
}

#[test]
fn what_is_lost_is_named() {
    for (present, desired, want) in [
        (vec![A, B], vec![A], vec!["the column `b` is dropped, with its values"]),
        (
            vec![A, B],
            vec![A, "`b` varchar(10) DEFAULT NULL"],
            vec!["the column `b` changes its type from varchar(20) to varchar(10), which may not hold every value"],
        ),
        (vec![A, B], vec![A, "`b` text"], vec![]),
        (
            vec![A],
            vec!["`a` int unsigned NOT NULL"],
            vec!["the column `a` changes its type from int to int unsigned, which may not hold every value"],
        ),
        (vec![A, PK], vec![A], vec!["the primary key is dropped, and nothing else keeps these values unique"]),
        (vec![A, PK], vec![A, "UNIQUE KEY `u` (`a`)"], vec![]),
        (vec![A, B, "UNIQUE KEY `u` (`a`,`b`)"], vec![A, B, "UNIQUE KEY `v` (`a`)"], vec![]),
        (
            vec![A, B, "UNIQUE KEY `u` (`a`)"],
            vec![A, B, "UNIQUE KEY `u` (`a`,`b`)"],
            vec!["the unique index `u` is dropped, and nothing else keeps these values unique"],
        ),
        (vec![A, "KEY `k` (`a`)"], vec![A], vec![]),
        (
            vec![A, C],
            vec![A, "`c` int GENERATED ALWAYS AS ((`a` + 1)) VIRTUAL"],
            vec!["the column `c` becomes a generated one and loses its values"],
        ),
        (vec![A, "CONSTRAINT `k` CHECK ((`a` > 0))"], vec![A], vec!["the CHECK constraint `k` is dropped, or replaced by another one"]),
    ] {
        let found = clauses(&present, &desired);
        assert_eq!(found.destructive, want, "{present:?} to {desired:?}");
        assert_eq!(found.renames, None);
    }
}

#[test]
fn types_that_hold_every_value() {
    for (from, to, want) in [
        ("int", "bigint", true),
        ("int unsigned", "bigint", true),
        ("int unsigned", "int", false),
        ("bigint", "int", false),
        ("int", "decimal(10,0)", true),
        ("int", "decimal(9,0)", false),
        ("int", "double", false),
        ("decimal(10,2)", "decimal(12,4)", true),
        ("decimal(10,2)", "decimal(12,1)", false),
        ("decimal(10,2)", "decimal(10,3)", false),
        ("float", "double", true),
        ("double", "float", false),
        ("char(10)", "varchar(10)", true),
        ("varchar(10)", "char(10)", false),
        ("varchar(255)", "text", true),
        ("varchar(255)", "tinytext", false),
        ("text", "mediumtext", true),
        ("longtext", "text", false),
        ("text", "blob", false),
        ("varbinary(300)", "blob", true),
        ("binary(4)", "binary(5)", false),
        ("enum('a','b')", "enum('b','a','c')", true),
        ("enum('a','b')", "enum('a')", false),
        ("datetime", "datetime(6)", true),
        ("datetime(6)", "datetime", false),
        ("datetime", "timestamp", false),
        ("date", "datetime", true),
        ("json", "json", true),
        ("json", "longtext", false),
        ("varchar(10) CHARACTER SET latin1", "varchar(10)", true),
        ("varchar(10)", "varchar(10) CHARACTER SET latin1", false),
        ("varchar(10) COLLATE utf8mb4_bin", "varchar(10)", true),
    ] {
        let column = |kind: &str| shown(&[&format!("`c` {kind}")]).columns.remove(0);
        assert_eq!(columns::holds(&column(from), &column(to), ("utf8mb4", "utf8mb4")), want, "{from} to {to}");
    }
}

#[test]
fn a_rename_is_not_guessed() {
    let found = clauses(&[A, B], &[A, "`email` varchar(20) DEFAULT NULL"]);
    assert_eq!(found.clauses, "DROP COLUMN `b`, ADD COLUMN `email` varchar(20) DEFAULT NULL");
    assert_eq!(found.destructive.len(), 1);
    let words = found.renames.unwrap();
    assert!(words.contains("`b`") && words.contains("`email`") && words.contains("RENAME COLUMN"), "{words}");
}

#[test]
fn foreign_keys_by_what_they_say() {
    let present = "CONSTRAINT `t_ibfk_1` FOREIGN KEY (`a`) REFERENCES `p` (`id`) ON DELETE CASCADE";
    for (key, want) in [
        ("FOREIGN KEY (a) REFERENCES p (id) ON DELETE CASCADE", ""),
        ("FOREIGN KEY (A) REFERENCES d.p (ID) ON UPDATE NO ACTION ON DELETE CASCADE", ""),
        ("CONSTRAINT t_ibfk_1 FOREIGN KEY (a) REFERENCES p (id) ON DELETE CASCADE", ""),
        (
            "FOREIGN KEY (a) REFERENCES P (id) ON DELETE CASCADE",
            "DROP FOREIGN KEY `t_ibfk_1`, ADD FOREIGN KEY (`a`) REFERENCES `P` (`id`) ON DELETE CASCADE",
        ),
        (
            "CONSTRAINT f FOREIGN KEY (a) REFERENCES p (id)",
            "DROP FOREIGN KEY `t_ibfk_1`, ADD CONSTRAINT `f` FOREIGN KEY (`a`) REFERENCES `p` (`id`)",
        ),
    ] {
        let statement = Statement::parse_as_any(&format!("CREATE TABLE t (a INT NOT NULL, {key})")).unwrap();
        let found = derive(&shown(&[A, present]), &shown(&[A]), statement.foreign_keys(), ("d", "t"), false, false).unwrap();
        assert_eq!(found.clauses, want, "{key}");
    }
}

#[test]
fn the_scratch_table_has_no_foreign_keys_and_names_of_its_own() {
    let text = "/* the */ CREATE TABLE IF NOT EXISTS `d`.t ( -- all of it
        FOREIGN KEY (a) REFERENCES p (id),
        CONSTRAINT f FOREIGN KEY (b) REFERENCES p (id) ON DELETE SET NULL,
        a INT /* ; */ CHECK (a > 0), `b` INT CONSTRAINT named CHECK (b <> 1) NOT ENFORCED /*!80023 INVISIBLE */,
        directory VARCHAR(10) DEFAULT ';', CONSTRAINT CHECK (a < 9), CHECK (a IN (1, 2))
    ) ENGINE=InnoDB, DEFAULT CHARACTER SET = utf8mb4 COMMENT 'x' /*!50100 PARTITION BY KEY (a) */ ;;";
    let statement = Statement::parse_as_any(text).unwrap();
    assert_eq!(statement.name(), (Some("d"), "t"));
    assert_eq!(statement.check_names(), [None, Some("named"), None, None]);
    assert_eq!(
        statement.scratch("CREATE TABLE", "`d`.`s`", |number| format!("c{number}"), &[1]),
        "CREATE TABLE `d`.`s` (
  KEY `f` (`b`),
  a INT CONSTRAINT `c0` CHECK (a > 0),
  `b` INT CONSTRAINT `c1` CHECK (b <> 1) NOT ENFORCED INVISIBLE,
  directory VARCHAR(10) DEFAULT ';',
  CONSTRAINT `c2` CHECK (a < 9),
  CONSTRAINT `c3` CHECK (a IN (1, 2))
) ENGINE=InnoDB, DEFAULT CHARACTER SET = utf8mb4 COMMENT 'x' PARTITION BY KEY (a)"
    );
    assert_eq!(statement.later_than(80_030), None);
    assert_eq!(statement.later_than(80_022), Some(80_023));
}

#[test]
fn texts_that_are_refused() {
    for (text, want) in [
        ("  -- nothing", "the definition is empty"),
        ("ADD COLUMN a INT", "single clauses such as ADD COLUMN go into spec.alter"),
        ("CREATE TEMPORARY TABLE t (a INT)", "leave out TEMPORARY"),
        ("CREATE VIEW t AS SELECT 1", "has no query"),
        ("CREATE TABLE t", "columns in parentheses were expected"),
        ("CREATE TABLE t LIKE u", "columns in parentheses were expected"),
        ("CREATE TABLE t (LIKE u)", "LIKE is not accepted"),
        ("CREATE TABLE t (a INT) SELECT 1 AS a", "has no query"),
        ("CREATE TABLE t (a INT) AS TABLE u", "has no query"),
        ("CREATE TABLE t (a INT) PARTITION BY HASH (a) TABLE u", "has no query"),
        ("CREATE TABLE t (a INT) PARTITION BY HASH (a) (/*!80019 TABLE */ u)", "has no query"),
        ("CREATE TABLE t (a INT) PARTITION BY HASH (a) VALUES ROW(1)", "has no query"),
        ("CREATE TABLE t (a INT) REPLACE", "not a table option"),
        ("CREATE TABLE t (a INT) IGNORE", "not a table option"),
        ("CREATE TABLE t (a INT); DROP TABLE t", "one statement"),
        ("CREATE TABLE t (a INT", "not closed"),
        ("CREATE TABLE t (a INT) DATA DIRECTORY='/x'", "where the data is stored"),
        ("CREATE TABLE t (a INT) PARTITION BY KEY (a) (PARTITION p DATA DIRECTORY='/x')", "where the data is stored"),
        ("CREATE TABLE t (a INT) TABLESPACE x", "where the data is stored"),
        ("CREATE TABLE t (a INT) UNION=(u)", "not a table option"),
        ("CREATE TABLE t (a INT) CONNECTION='mysql://u:p@h/d'", "not a table option"),
        ("CREATE TABLE t (a INT REFERENCES p (id))", "write FOREIGN KEY"),
        ("CREATE TABLE t (a INT,)", "between two commas"),
        ("CREATE TABLE t (a INT, FOREIGN KEY (a) REFERENCES p)", "columns in parentheses"),
        ("CREATE TABLE t (a INT) /*+ x */", "hints"),
        ("CREATE TABLE t (a INT DEFAULT 'x)", "not closed"),
    ] {
        let error = Statement::parse_as(text, Grammar::default()).unwrap_err().to_string();
        assert!(error.contains(want), "{text}: {error}");
    }
}

#[test]
fn differences_are_named() {
    let desired = shown(&[A, B, "KEY `x` (`a`)", "KEY `y` (`b`)"]);
    assert_eq!(difference(&desired, &desired), None);
    let order = difference(&shown(&[A, B, "KEY `y` (`b`)", "KEY `x` (`a`)"]), &desired);
    assert!(matches!(order, Some(Difference::IndexOrder(_))), "{order:?}");
    let column = difference(&shown(&[A, C, "KEY `x` (`a`)", "KEY `y` (`b`)"]), &desired);
    let want = "the column would be `c` int DEFAULT '0', and is to be `b` varchar(20) DEFAULT NULL";
    assert_eq!(column, Some(Difference::Other(want.to_owned())));
}

proptest! {
    #[test]
    fn never_panics(text in "(CREATE TABLE t \\()?([a-zA-Z0-9`'\"#/*!+.,;()\\\\ \n-]|CHECK|CONSTRAINT|FOREIGN KEY|REFERENCES|a INT|,)*") {
        if let Ok(statement) = Statement::parse_as_any(&text) {
            let _ = statement.scratch("CREATE TABLE", "s", |n| n.to_string(), &[0]);
        }
        let _ = Shown::parse(&text, "d", |_| None);
    }
}
