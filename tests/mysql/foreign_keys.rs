//! Tables that take part in foreign keys: children, parents, tables that refer to themselves, several of each, with every action, across
//! schemas. The definitions afterwards, of the table and of its relatives, are those that the native ALTER leaves, to the letter; the
//! constraints hold at every moment; and a death between any two statements of a swap is finished by the next engine.
use crate::support::{self, Db, controls, migrate};
use mysql_async::prelude::Queryable;
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::Outcome;
use theseus::engine::contract::spec::{Algorithm, Controls, DeferIndexes};

struct Case {
    name: &'static str,
    /// Statements that make the tables, divided by semicolons; `OTHER` stands for a second schema.
    tables: &'static str,
    /// Which of them is changed.
    table: &'static str,
    alter: &'static str,
}

const FAMILY: &str = "CREATE TABLE p (id INT PRIMARY KEY, u INT NOT NULL UNIQUE, a VARCHAR(10)); \
    CREATE TABLE t (id INT PRIMARY KEY, p INT, q INT, boss INT, a INT, CONSTRAINT to_p FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE ON UPDATE CASCADE, \
      FOREIGN KEY (q) REFERENCES p (u) ON DELETE SET NULL, CONSTRAINT boss FOREIGN KEY (boss) REFERENCES t (id)); \
    CREATE TABLE c (id INT PRIMARY KEY, t INT, n INT, FOREIGN KEY (t) REFERENCES t (id) ON DELETE CASCADE, CONSTRAINT zz FOREIGN KEY (n) REFERENCES t (id)); \
    INSERT INTO p VALUES (1, 10, 'a'), (2, 20, 'b'); INSERT INTO t VALUES (1, 1, 20, NULL, 5), (2, 2, 10, 1, 6); INSERT INTO c VALUES (1, 1, 2), (2, 2, 1)";

const CASES: &[Case] = &[
    Case { name: "a child of several, that refers to itself and has children", tables: FAMILY, table: "t", alter: "MODIFY a BIGINT" },
    Case { name: "a parent", tables: FAMILY, table: "p", alter: "MODIFY a VARCHAR(300)" },
    Case { name: "a child at the end of the chain", tables: FAMILY, table: "c", alter: "ADD COLUMN x INT FIRST" },
    Case { name: "columns that foreign keys stand on get other names", tables: FAMILY, table: "t", alter: "CHANGE id number INT NOT NULL, RENAME COLUMN p TO parent, RENAME COLUMN boss TO chief" },
    Case { name: "a foreign key is dropped besides", tables: FAMILY, table: "t", alter: "DROP FOREIGN KEY to_p, DROP INDEX to_p, DROP COLUMN p, MODIFY a BIGINT" },
    Case { name: "an index that takes the place of the generated one", tables: FAMILY, table: "t", alter: "ADD INDEX mine (p, a), MODIFY a BIGINT" },
    Case {
        name: "composite, named by the server and by hand, in no order",
        tables: "CREATE TABLE p (a INT, b VARCHAR(5), c INT, PRIMARY KEY (a, b), KEY (c), UNIQUE (a)); \
            CREATE TABLE t (id INT PRIMARY KEY, x INT, y VARCHAR(5), z INT, CONSTRAINT zeta FOREIGN KEY (x, y) REFERENCES p (a, b) ON UPDATE CASCADE, \
              FOREIGN KEY (y) REFERENCES p2 (b), CONSTRAINT alpha FOREIGN KEY (x) REFERENCES p (a), CONSTRAINT t_ibfk_7 FOREIGN KEY (x) REFERENCES p (a)); \
            INSERT INTO p VALUES (1, 'x', 1); INSERT INTO p2 VALUES ('x'); INSERT INTO t VALUES (1, 1, 'x', 9)",
        table: "t",
        alter: "MODIFY z BIGINT",
    },
    Case {
        name: "across schemas",
        tables: "CREATE TABLE OTHER.p (id INT PRIMARY KEY); CREATE TABLE t (id INT PRIMARY KEY, p INT, a INT, CONSTRAINT f FOREIGN KEY (p) REFERENCES OTHER.p (id)); \
            CREATE TABLE OTHER.c (id INT PRIMARY KEY, t INT, CONSTRAINT f FOREIGN KEY (t) REFERENCES DB.t (id) ON DELETE SET NULL); \
            INSERT INTO OTHER.p VALUES (1); INSERT INTO t VALUES (1, 1, 1); INSERT INTO OTHER.c VALUES (1, 1)",
        table: "t",
        alter: "MODIFY a BIGINT",
    },
    Case {
        name: "names as long as they may be, and checks besides",
        tables: "CREATE TABLE p (id INT PRIMARY KEY); CREATE TABLE a_table_whose_name_is_so_long_that_it_is_cut_off (id INT PRIMARY KEY, p INT, a INT, CHECK (a > 0), \
            FOREIGN KEY (p) REFERENCES p (id), CONSTRAINT a_constraint_whose_name_is_as_long_as_a_name_may_be_in_mysql_____ FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE); \
            INSERT INTO p VALUES (1); INSERT INTO a_table_whose_name_is_so_long_that_it_is_cut_off VALUES (1, 1, 1)",
        table: "a_table_whose_name_is_so_long_that_it_is_cut_off",
        alter: "MODIFY a BIGINT",
    },
    Case {
        name: "twenty children",
        tables: "CREATE TABLE t (id INT PRIMARY KEY, a INT); INSERT INTO t VALUES (1, 1), (2, 2); \
            CREATE TABLE c1 (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES t (id)); CREATE TABLE c2 (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES t (id)); \
            CREATE TABLE c3 (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES t (id)); CREATE TABLE c4 (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES t (id)); \
            CREATE TABLE c5 (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES t (id)); CREATE TABLE c6 (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES t (id)); \
            INSERT INTO c1 VALUES (1); INSERT INTO c6 VALUES (2)",
        table: "t",
        alter: "MODIFY a BIGINT",
    },
];

/// Two databases, of which the second is `OTHER` in the statements.
async fn make(tables: &str, prefix: &str) -> (Db, Db) {
    let (mut db, other) = (Db::new(prefix).await, Db::new(&format!("{prefix}_other")).await);
    // Parents may come later in the text.
    db.run("SET foreign_key_checks=0").await;
    for statement in tables.split(';') {
        let statement = statement.replace("OTHER", &other.name).replace("DB", &db.name);
        if statement.contains("REFERENCES p2") {
            db.run("CREATE TABLE p2 (b VARCHAR(5) PRIMARY KEY)").await;
        }
        db.run(&statement).await;
    }
    db.run("SET foreign_key_checks=1").await;
    (db, other)
}

async fn drop(mut db: Db) {
    // Tables of the other schema may refer to its own.
    db.run("SET foreign_key_checks=0").await;
    db.drop().await;
}

/// Definitions of all tables that are not ours, and their rows.
async fn picture(db: &mut Db, other: &mut Db) -> Vec<String> {
    let mut all = Vec::new();
    for one in [&mut *db, other] {
        for table in one.tables().await {
            if table.starts_with('_') {
                continue;
            }
            all.push(one.definition(&table).await);
            all.push(format!("{:?}", one.rows(&format!("SELECT * FROM `{table}` ORDER BY 1")).await));
        }
    }
    let (here, there) = (db.name.clone(), other.name.clone());
    all.into_iter().map(|text| text.replace(&there, "OTHER").replace(&here, "DB")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_are_those_of_the_native_alter() {
    for case in CASES {
        for defer in [DeferIndexes::Never, DeferIndexes::Always] {
            let (mut native, mut native_other) = make(case.tables, "fk_native").await;
            native.run(&format!("ALTER TABLE {} {}", case.table, case.alter)).await;
            let (mut ours, mut ours_other) = make(case.tables, "fk_ours").await;
            let mut spec = ours.spec(case.table, case.alter);
            spec.algorithm = Algorithm::Copy;
            let outcome = migrate(spec, Controls { defer_indexes: defer, ..controls() }).await;
            assert_eq!(outcome, Outcome::Succeeded, "{}", case.name);
            assert_eq!(
                picture(&mut ours, &mut ours_other).await,
                picture(&mut native, &mut native_other).await,
                "{} ({defer:?})",
                case.name
            );
            for db in [native_other, native, ours_other, ours] {
                drop(db).await;
            }
        }
    }
}
