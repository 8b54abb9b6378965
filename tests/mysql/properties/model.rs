//! A random table with a random ALTER, and values for it.

use fastrand::Rng;
use std::sync::Mutex;

/// A type that a column may have: values as SQL literals, and what an ALTER may make of it.
pub struct Type {
    pub ddl: &'static str,
    value: fn(&mut Rng) -> String,
    /// Types that take each of the values.
    wider: &'static [&'static str],
    /// Of these, the ones that store the same for a value whether it is converted or written.
    same: &'static [&'static str],
}

fn pick<'a, T: ?Sized>(rng: &mut Rng, of: &[&'a T]) -> &'a T {
    of[rng.usize(..of.len())]
}

fn small(rng: &mut Rng) -> String {
    match rng.u8(..20) {
        0 => pick(rng, &["127", "-128", "100"]).to_owned(),
        _ => rng.i32(-60..120).to_string(),
    }
}

fn unsigned(rng: &mut Rng) -> String {
    match rng.u8(..20) {
        0 => pick(rng, &["0", "255", "128"]).to_owned(),
        _ => rng.u8(..200).to_string(),
    }
}

fn int(rng: &mut Rng) -> String {
    match rng.u8(..20) {
        0 => pick(rng, &["2147483647", "-2147483648", "0", "-1"]).to_owned(),
        _ => rng.i32(-100..300).to_string(),
    }
}

fn bigint(rng: &mut Rng) -> String {
    match rng.u8(..10) {
        0 => pick(rng, &["9223372036854775807", "-9223372036854775808", "4294967296"]).to_owned(),
        _ => rng.i32(-100..300).to_string(),
    }
}

fn big_unsigned(rng: &mut Rng) -> String {
    match rng.u8(..10) {
        0 => pick(rng, &["18446744073709551615", "9223372036854775808", "9223372036854775807"]).to_owned(),
        _ => rng.u32(..300).to_string(),
    }
}

fn decimal(rng: &mut Rng) -> String {
    format!("{}{}.{:02}", pick(rng, &["", "-"]), rng.u32(..60), rng.u8(..4) * 25)
}

fn long_decimal(rng: &mut Rng) -> String {
    format!("{}{}.{:05}", pick(rng, &["", "-", "12345678901234567"]), rng.u32(..9), rng.u32(..30) * 3)
}

fn float(rng: &mut Rng) -> String {
    pick(rng, &["0", "1.5", "-2.25", "1e10", "0.1", "123456.789", "1e-7", "3.4e38", "-0e0", "16777217"]).to_owned()
}

/// Letters that collations treat differently, with trailing blanks.
fn word(rng: &mut Rng, letters: &[&str], most: usize) -> String {
    let mut out = String::new();
    for _ in 0..rng.usize(..=most) {
        out.push_str(pick(rng, letters));
    }
    if rng.u8(..4) == 0 {
        out.push(' ');
    }
    format!("'{out}'")
}

fn text(rng: &mut Rng) -> String {
    word(rng, &["a", "A", "á", "b", "B", "ß", "ss", "z", "日", "😀", "1", "-", "i", "İ", "ı"], 3)
}

fn latin(rng: &mut Rng) -> String {
    word(rng, &["a", "A", "á", "ä", "b", "B", "ß", "z", "é", "1", "_"], 3)
}

fn ascii(rng: &mut Rng) -> String {
    word(rng, &["a", "A", "b", "1", "\\\\", "%", "''"], 3)
}

fn uuid(rng: &mut Rng) -> String {
    format!("'6ccd780c-baba-1026-9564-{:012x}'", rng.u32(..250))
}

fn uuid_bytes(rng: &mut Rng) -> String {
    format!("x'6ccd780cbaba10269564{:012x}'", rng.u32(..250) << 8)
}

fn bytes(rng: &mut Rng) -> String {
    let mut out = String::from("x'");
    for _ in 0..rng.usize(..=4) {
        out.push_str(pick(rng, &["00", "20", "61", "41", "FF", "C3"]));
    }
    out + "'"
}

fn date(rng: &mut Rng) -> String {
    match rng.u8(..12) {
        0 => pick(rng, &["'0000-00-00'", "'1000-01-01'", "'9999-12-31'"]).to_owned(),
        _ => format!("'2024-{:02}-{:02}'", rng.u8(1..=12), rng.u8(1..=28)),
    }
}

fn date_time(rng: &mut Rng) -> String {
    match rng.u8(..12) {
        0 => pick(rng, &["'0000-00-00 00:00:00'", "'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'"]).to_owned(),
        _ => format!("'2024-03-{:02} {:02}:59:59.{:06}'", rng.u8(1..=28), rng.u8(..24), rng.u32(..4) * 250_001),
    }
}

fn timestamp(rng: &mut Rng) -> String {
    match rng.u8(..12) {
        0 => pick(rng, &["'1970-01-01 00:00:01'", "'2038-01-19 03:14:06'"]).to_owned(),
        _ => format!("'2024-03-{:02} {:02}:00:00.{:06}'", rng.u8(1..=28), rng.u8(..24), rng.u32(..4) * 250_001),
    }
}

fn time(rng: &mut Rng) -> String {
    format!("'{}{:02}:{:02}:00.{:06}'", pick(rng, &["", "-", "8"]), rng.u8(..24), rng.u8(..6), rng.u32(..4) * 250_001)
}

fn year(rng: &mut Rng) -> String {
    match rng.u8(..10) {
        0 => "'0000'".to_owned(),
        _ => rng.u16(1901..=2155).to_string(),
    }
}

fn label(rng: &mut Rng) -> String {
    pick(rng, &["'a'", "'b'", "''", "'1'", "'é'"]).to_owned()
}

fn members(rng: &mut Rng) -> String {
    pick(rng, &["'a'", "'b'", "''", "'1'", "'a,b'", "'a,1'", "'a,b,1'"]).to_owned()
}

fn json(rng: &mut Rng) -> String {
    pick(rng, &["'1'", "'1.50'", "'\"é\"'", "'{\"b\": 1, \"a\": [1, null]}'", "'[]'", "'null'", "'18446744073709551615'"]).to_owned()
}

fn bits(rng: &mut Rng) -> String {
    rng.u16(..512).to_string()
}

const fn t(ddl: &'static str, value: fn(&mut Rng) -> String, wider: &'static [&'static str], same: &'static [&'static str]) -> Type {
    Type { ddl, value, wider, same }
}

/// Payload columns.
const PAYLOAD: &[Type] = &[
    t(
        "INT",
        int,
        &["BIGINT", "VARCHAR(20) CHARACTER SET utf8mb4", "DECIMAL(20,2)", "DOUBLE", "JSON", "TEXT"],
        &["BIGINT", "DECIMAL(20,2)", "DOUBLE"],
    ),
    t("TINYINT UNSIGNED", unsigned, &["SMALLINT", "BIGINT UNSIGNED", "CHAR(10)", "BIT(9)"], &["SMALLINT", "BIGINT UNSIGNED"]),
    t("INT(6) ZEROFILL", unsigned, &["VARCHAR(12)", "BIGINT", "INT(9) ZEROFILL"], &["BIGINT"]),
    t("BIGINT UNSIGNED", big_unsigned, &["DECIMAL(30,0)", "VARCHAR(30)", "JSON"], &["DECIMAL(30,0)"]),
    t(
        "DECIMAL(8,2)",
        decimal,
        &["DECIMAL(12,4)", "DECIMAL(8,1)", "DOUBLE", "VARCHAR(20)", "FLOAT", "INT"],
        &["DECIMAL(12,4)", "DECIMAL(8,1)"],
    ),
    t("FLOAT", float, &["DOUBLE", "VARCHAR(30)"], &[]),
    t("DOUBLE", float, &["VARCHAR(40)", "TEXT", "JSON"], &[]),
    t(
        "VARCHAR(20) CHARACTER SET utf8mb4",
        text,
        &[
            "VARCHAR(40) CHARACTER SET utf8mb4",
            "TEXT CHARACTER SET utf8mb4",
            "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            "VARBINARY(100)",
            "CHAR(30) CHARACTER SET utf8mb4",
            "VARCHAR(30) CHARACTER SET utf16",
        ],
        &["VARCHAR(40) CHARACTER SET utf8mb4", "TEXT CHARACTER SET utf8mb4", "VARCHAR(30) CHARACTER SET utf16"],
    ),
    t(
        "CHAR(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        text,
        &["VARCHAR(12) CHARACTER SET utf8mb4", "CHAR(20) CHARACTER SET utf16", "TINYTEXT CHARACTER SET utf8mb4"],
        &["CHAR(20) CHARACTER SET utf16"],
    ),
    t(
        "VARCHAR(20) CHARACTER SET latin1",
        latin,
        &["VARCHAR(20) CHARACTER SET utf8mb4", "CHAR(20) CHARACTER SET utf16", "TEXT CHARACTER SET latin1", "BLOB"],
        &["VARCHAR(20) CHARACTER SET utf8mb4", "TEXT CHARACTER SET latin1"],
    ),
    t(
        "TEXT CHARACTER SET utf8mb4",
        text,
        &["MEDIUMTEXT CHARACTER SET utf8mb4", "VARCHAR(500) CHARACTER SET utf8mb4", "LONGBLOB"],
        &["MEDIUMTEXT CHARACTER SET utf8mb4", "VARCHAR(500) CHARACTER SET utf8mb4"],
    ),
    t("BLOB", bytes, &["LONGBLOB", "VARBINARY(100)"], &["LONGBLOB", "VARBINARY(100)"]),
    t("BINARY(4)", bytes, &["BINARY(8)", "VARBINARY(8)", "BLOB"], &[]),
    t("DATE", date, &["DATETIME", "VARCHAR(20)", "DATETIME(6)"], &["DATETIME", "DATETIME(6)"]),
    t("DATETIME(3)", date_time, &["DATETIME(6)", "DATETIME", "VARCHAR(30)", "DATE"], &[]),
    t("TIMESTAMP(6)", timestamp, &["TIMESTAMP", "DATETIME(6)", "VARCHAR(30)"], &[]),
    t("TIME(2)", time, &["TIME(6)", "TIME", "VARCHAR(20)"], &[]),
    t("YEAR", year, &["INT", "VARCHAR(8)", "SMALLINT"], &["INT"]),
    t(
        "ENUM('a','b','','1','é') CHARACTER SET utf8mb4",
        label,
        &[
            "ENUM('a','b','','1','é','more') CHARACTER SET utf8mb4",
            "VARCHAR(8) CHARACTER SET utf8mb4",
            "ENUM('é','1','','b','a') CHARACTER SET latin1",
        ],
        &["ENUM('a','b','','1','é','more') CHARACTER SET utf8mb4"],
    ),
    t("SET('a','b','1')", members, &["SET('a','b','1','c')", "VARCHAR(20)", "SET('1','b','a','c')"], &["SET('a','b','1','c')"]),
    t("JSON", json, &["LONGTEXT CHARACTER SET utf8mb4", "JSON"], &["JSON"]),
    t("BIT(9)", bits, &["BIT(20)", "INT UNSIGNED"], &["BIT(20)", "INT UNSIGNED"]),
];

/// Key columns; `wider` are types that keep a key.
const KEYS: &[Type] = &[
    t("TINYINT", small, &["INT", "SMALLINT"], &["INT", "SMALLINT"]),
    t("TINYINT UNSIGNED", unsigned, &["BIGINT UNSIGNED", "SMALLINT"], &["SMALLINT"]),
    t("SMALLINT UNSIGNED", unsigned, &["INT"], &["INT"]),
    t("MEDIUMINT", int_medium, &["BIGINT"], &["BIGINT"]),
    t("INT", int, &["BIGINT"], &["BIGINT"]),
    t("INT UNSIGNED", unsigned, &["BIGINT"], &["BIGINT"]),
    t("BIGINT", bigint, &[], &[]),
    t("BIGINT UNSIGNED", big_unsigned, &[], &[]),
    t("DECIMAL(10,2)", decimal, &["DECIMAL(14,4)"], &["DECIMAL(14,4)"]),
    t("DECIMAL(30,5)", long_decimal, &["DECIMAL(40,6)"], &["DECIMAL(40,6)"]),
    t(
        "VARCHAR(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci",
        text,
        &[
            "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci",
            "VARCHAR(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            "VARCHAR(12) CHARACTER SET utf16 COLLATE utf16_bin",
        ],
        &["VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci"],
    ),
    t(
        "VARCHAR(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        text,
        &["VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"],
        &[],
    ),
    t(
        "CHAR(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_as_cs",
        text,
        &["VARCHAR(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin", "CHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_as_cs"],
        &["CHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_as_cs"],
    ),
    t(
        "VARCHAR(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin",
        text,
        &["VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin"],
        &["VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin"],
    ),
    t("VARCHAR(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", text, &[], &[]),
    t("CHAR(12) CHARACTER SET utf16 COLLATE utf16_unicode_ci", text, &[], &[]),
    t(
        "VARCHAR(12) CHARACTER SET latin1 COLLATE latin1_swedish_ci",
        latin,
        &["VARCHAR(12) CHARACTER SET latin1 COLLATE latin1_bin", "VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci"],
        &["VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci"],
    ),
    t("CHAR(12) CHARACTER SET latin1 COLLATE latin1_german2_ci", latin, &[], &[]),
    t("VARCHAR(12) CHARACTER SET ascii", ascii, &["VARCHAR(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"], &[]),
    t("CHAR(36) CHARACTER SET ascii", uuid, &["VARCHAR(36) CHARACTER SET ascii"], &["VARCHAR(36) CHARACTER SET ascii"]),
    t("BINARY(16)", uuid_bytes, &["VARBINARY(16)"], &["VARBINARY(16)"]),
    t("BINARY(4)", bytes, &["VARBINARY(4)"], &[]),
    t("VARBINARY(6)", bytes, &["VARBINARY(20)"], &["VARBINARY(20)"]),
    t("DATE", date, &[], &[]),
    t("DATETIME", date_time, &["DATETIME(3)"], &[]),
    t("DATETIME(6)", date_time, &[], &[]),
    t("TIMESTAMP", timestamp, &["TIMESTAMP(6)"], &[]),
    t("TIMESTAMP(3)", timestamp, &["TIMESTAMP(6)"], &[]),
    t("TIME", time, &["TIME(3)"], &[]),
    t("TIME(6)", time, &[], &[]),
    t("YEAR", year, &[], &[]),
    t(
        "ENUM('a','b','','1','é') CHARACTER SET utf8mb4",
        label,
        &["ENUM('a','b','','1','é','z') CHARACTER SET utf8mb4"],
        &["ENUM('a','b','','1','é','z') CHARACTER SET utf8mb4"],
    ),
    t("SET('a','b','1')", members, &["SET('a','b','1','d')"], &["SET('a','b','1','d')"]),
    t("BIT(9)", bits, &["BIT(12)"], &["BIT(12)"]),
];

fn int_medium(rng: &mut Rng) -> String {
    rng.i32(-100..400).to_string()
}

/// A column of the table before the ALTER.
pub struct Column {
    pub name: String,
    pub ty: &'static Type,
    nullable: bool,
    /// Its type has too few values for a key of its own.
    definition: String,
}

impl Column {
    /// A literal.
    pub fn value(&self, rng: &mut Rng) -> String {
        if self.nullable && rng.u8(..8) == 0 { "NULL".to_owned() } else { (self.ty.value)(rng) }
    }
}

/// A table and its ALTER.
pub struct Plan {
    pub key: Vec<Column>,
    pub payload: Vec<Column>,
    /// `u`, a unique column beside the key.
    pub unique: bool,
    /// The columns of the key may be NULL, so `u` is as good a key to the engine, as long as there is no NULL in it.
    pub key_may_be_null: bool,
    /// Rows that never go away make the ALTER impossible.
    pub poison: bool,
    /// Writers go on through the cut-over.
    pub through: bool,
    pub rows: usize,
    pub alter: String,
    pub relations: Relations,
    tail: String,
    generated: bool,
    /// Keys that were written once, as conditions.
    known: Mutex<Vec<String>>,
}

/// What binds the table to others.
#[derive(Default)]
pub struct Relations {
    /// `f` refers to `p`: what happens where a parent goes or gets another number.
    pub parent: Option<&'static str>,
    /// `boss` refers to `u` of the table itself.
    pub own: bool,
    /// `ch` refers to `u`.
    pub child: Option<&'static str>,
    /// Each row that is written has another `n` than was written.
    pub trigger: bool,
}

/// Parents at the beginning.
pub const PARENTS: u8 = 20;

impl Relations {
    /// In a third of the cases there are some. What others refer to has to be unique.
    fn random(rng: &mut Rng, unique: bool) -> Self {
        if rng.u8(..3) > 0 {
            return Self::default();
        }
        Self {
            parent: rng.bool().then(|| {
                pick(
                    rng,
                    &[
                        "",
                        " ON DELETE CASCADE",
                        " ON DELETE SET NULL ON UPDATE CASCADE",
                        " ON DELETE CASCADE ON UPDATE CASCADE",
                        " ON UPDATE SET NULL",
                    ],
                )
            }),
            own: unique && rng.u8(..3) == 0,
            child: (unique && rng.bool())
                .then(|| pick(rng, &["", " ON DELETE SET NULL ON UPDATE CASCADE", " ON DELETE CASCADE ON UPDATE SET NULL"])),
            trigger: rng.u8(..3) == 0,
        }
    }

    pub fn any(&self) -> bool {
        self.parent.is_some() || self.own || self.child.is_some() || self.trigger
    }

    /// Columns for them.
    pub fn columns(&self) -> Vec<String> {
        let all = [self.parent.map(|_| "f"), self.own.then_some("boss")];
        all.into_iter().flatten().map(str::to_owned).collect()
    }

    /// Constraints for CREATE TABLE. Names of constraints are a schema's.
    fn constraints(&self, table: &str) -> String {
        let up =
            self.parent.map_or_else(String::new, |actions| format!(", CONSTRAINT {table}_up FOREIGN KEY (f) REFERENCES p (id){actions}"));
        let own = if self.own { format!(", CONSTRAINT {table}_own FOREIGN KEY (boss) REFERENCES {table} (u)") } else { String::new() };
        up + &own
    }

    /// The table's own names in a definition as those of `t`.
    pub fn as_t(definition: &str, table: &str) -> String {
        let text = definition.replace(&format!("REFERENCES `{table}` "), "REFERENCES `t` ");
        ["up", "own"].iter().fold(text, |text, name| text.replace(&format!("`{table}_{name}`"), &format!("`t_{name}`")))
    }

    /// Statements that make the parent; before the table.
    pub fn parents(&self) -> Vec<String> {
        if self.parent.is_none() {
            return Vec::new();
        }
        let rows: Vec<String> = (1..=PARENTS).map(|id| format!("({id})")).collect();
        vec!["CREATE TABLE p (id INT PRIMARY KEY)".to_owned(), format!("INSERT INTO p VALUES {}", rows.join(", "))]
    }

    /// Statements that make the child and fill it; after the table's rows.
    pub fn children(&self) -> Vec<String> {
        let Some(actions) = self.child else { return Vec::new() };
        vec![
            format!(
                "CREATE TABLE ch (id INT AUTO_INCREMENT PRIMARY KEY, u BIGINT, CONSTRAINT down FOREIGN KEY (u) REFERENCES t (u){actions})"
            ),
            "INSERT INTO ch (u) SELECT u FROM t LIMIT 50".to_owned(),
        ]
    }

    /// What counts the rows that break a constraint.
    pub fn orphans(&self) -> Vec<(&'static str, String)> {
        let of = |child: &str, column: &str, parent: &str, key: &str| {
            format!(
                "SELECT COUNT(*) FROM {child} a LEFT JOIN {parent} b ON a.{column} = b.{key} WHERE a.{column} IS NOT NULL AND b.{key} IS NULL"
            )
        };
        let all = [
            self.parent.map(|_| ("f", of("t", "f", "p", "id"))),
            self.own.then(|| ("boss", of("t", "boss", "t", "u"))),
            self.child.map(|_| ("ch", of("ch", "u", "t", "u"))),
        ];
        all.into_iter().flatten().collect()
    }

    /// Makes the trigger; after the rows. Those that never go away are left as they are.
    pub fn triggers(&self, table: &str) -> Vec<String> {
        let moments: &[&str] = if self.trigger { &["INSERT", "UPDATE"] } else { &[] };
        let of = |moment: &&str| {
            format!(
                "CREATE TRIGGER {table}_{moment} BEFORE {moment} ON {table} FOR EACH ROW SET NEW.n = IF(NEW.n < 100, 99 - NEW.n, NEW.n)"
            )
        };
        moments.iter().map(of).collect()
    }
}

/// Keys remembered: enough for every row of most tables.
const KNOWN: usize = 500;

impl Plan {
    pub fn random(rng: &mut Rng) -> Plan {
        let through = rng.u8(..3) == 0;
        let parts = [1, 1, 1, 1, 2, 2, 3][rng.usize(..7)];
        let mut key: Vec<Column> = Vec::new();
        for i in 0..parts {
            let ty = &KEYS[rng.usize(..KEYS.len())];
            key.push(Column { name: format!("k{i}"), ty, nullable: false, definition: format!("{} NOT NULL", ty.ddl) });
        }
        let mut payload = Vec::new();
        for i in 0..rng.usize(2..=5) {
            let ty = &PAYLOAD[rng.usize(..PAYLOAD.len())];
            let nullable = rng.bool();
            payload.push(Column {
                name: format!("p{i}"),
                ty,
                nullable,
                definition: format!("{}{}", ty.ddl, if nullable { " NULL" } else { " NOT NULL" }),
            });
        }
        let unique = rng.u8(..3) > 0;
        let relations = Relations::random(rng, unique);
        let generated = !through && rng.u8(..4) == 0;
        let descending: Vec<bool> = key.iter().map(|_| rng.u8(..4) == 0).collect();
        let parts = |order: &[usize]| {
            let parts = order.iter().map(|i| format!("k{i}{}", if descending[*i] { " DESC" } else { "" }));
            parts.collect::<Vec<_>>().join(", ")
        };
        let order: Vec<usize> = (0..key.len()).collect();
        let mut indexes = vec![match rng.u8(..8) {
            // No primary key; or one that lives beside.
            0 | 1 => format!("UNIQUE KEY key_of_rows ({})", parts(&order)),
            _ => format!("PRIMARY KEY ({})", parts(&order)),
        }];
        let has_primary = indexes[0].starts_with("PRIMARY");
        // One that may be NULL, and never is: an index shows that of each column.
        let key_may_be_null = !has_primary && rng.bool();
        if key_may_be_null {
            for (i, column) in key.iter_mut().enumerate() {
                column.definition = format!("{} NULL", column.ty.ddl);
                if i > 0 {
                    indexes.push(format!("KEY shows{i} (k{i})"));
                }
            }
        }
        if unique {
            indexes.push("UNIQUE KEY uu (u)".to_owned());
        }
        if rng.bool() {
            indexes.push(format!("KEY one ({})", index_part(&payload[0])));
        }
        if rng.u8(..3) == 0 {
            indexes.push(format!("KEY two ({}, k0 DESC)", index_part(&payload[1])));
        }
        if generated {
            indexes.push("KEY three (g)".to_owned());
        }
        let tail = indexes.join(", ");
        let mut plan = Plan {
            key,
            payload,
            unique,
            key_may_be_null,
            poison: false,
            through,
            rows: [0, 1, 20, 150, 400, 400, 800, 800][rng.usize(..8)],
            alter: String::new(),
            relations,
            tail,
            generated,
            known: Mutex::new(Vec::new()),
        };
        plan.alter = plan.random_alter(rng, has_primary, &descending);
        plan
    }

    /// `CREATE TABLE`.
    pub fn create(&self, table: &str) -> String {
        let mut columns: Vec<String> = self.key.iter().chain(&self.payload).map(|c| format!("{} {}", c.name, c.definition)).collect();
        columns.extend(self.relations.columns().iter().map(|name| format!("{name} {} NULL", if name == "f" { "INT" } else { "BIGINT" })));
        columns.push("u BIGINT NULL".to_owned());
        columns.push("n INT NOT NULL DEFAULT 0".to_owned());
        if self.generated {
            columns.push("g BIGINT AS (n + 1) VIRTUAL, s BIGINT AS (n * 2) STORED".to_owned());
        }
        let bound = self.relations.constraints(table);
        format!("CREATE TABLE {table} ({}, {}{bound}) DEFAULT CHARSET=utf8mb4", columns.join(", "), self.tail)
    }

    /// The columns that are written, in the order of [`Plan::row`].
    pub fn stored_columns(&self) -> Vec<String> {
        let own = self.key.iter().chain(&self.payload).map(|c| c.name.clone());
        own.chain(self.relations.columns()).chain(["u".to_owned(), "n".to_owned()]).collect()
    }

    /// A row's literals.
    pub fn row(&self, rng: &mut Rng) -> Vec<String> {
        let mut row: Vec<String> = self.key.iter().chain(&self.payload).map(|c| c.value(rng)).collect();
        let condition = self.key.iter().zip(&row).map(|(c, v)| format!("{} = {v}", c.name)).collect::<Vec<_>>().join(" AND ");
        let mut known = self.known.lock().expect("no panic");
        if known.len() < KNOWN {
            known.push(condition);
        } else {
            known[rng.usize(..KNOWN)] = condition;
        }
        drop(known);
        // Nobody has a boss at first: it would have to be there.
        row.extend(self.relations.columns().iter().map(|name| if name == "f" { some_parent(rng) } else { "NULL".to_owned() }));
        row.push(self.unique_value(rng));
        row.push(rng.u8(..100).to_string());
        row
    }

    /// A value of `u`.
    pub fn unique_value(&self, rng: &mut Rng) -> String {
        if rng.u8(..12) == 0 { "NULL".to_owned() } else { rng.u16(..500).to_string() }
    }

    /// A random key as a condition, most often one that was written.
    pub fn some_key(&self, rng: &mut Rng) -> String {
        let known = self.known.lock().expect("no panic");
        if !known.is_empty() && rng.u8(..5) > 0 {
            return known[rng.usize(..known.len())].clone();
        }
        self.key.iter().map(|c| format!("{} = {}", c.name, c.value(rng))).collect::<Vec<_>>().join(" AND ")
    }

    fn random_alter(&mut self, rng: &mut Rng, has_primary: bool, descending: &[bool]) -> String {
        let mut clauses: Vec<String> = Vec::new();
        let mut touched = vec![false; self.payload.len()];
        let free = |rng: &mut Rng, touched: &mut Vec<bool>| {
            let at = rng.usize(..touched.len());
            (!std::mem::replace(&mut touched[at], true)).then_some(at)
        };
        let mut dropped = 0;
        for _ in 0..rng.usize(1..=4) {
            match rng.u8(..16) {
                0 => clauses.push(format!("ADD COLUMN a{} VARCHAR(20) NOT NULL DEFAULT 'é'", clauses.len())),
                1 => clauses.push(format!("ADD COLUMN a{} INT NULL FIRST", clauses.len())),
                2 if !self.through => clauses.push(format!("ADD COLUMN a{} DECIMAL(8,2) NOT NULL AFTER n", clauses.len())),
                3 => clauses.push(format!("ADD COLUMN a{} BIGINT AS (n + 7) {}", clauses.len(), pick(rng, &["VIRTUAL", "STORED"]))),
                4 => clauses.push(format!("ADD COLUMN a{} DATETIME(3) NOT NULL DEFAULT '2020-01-01' INVISIBLE", clauses.len())),
                5 | 6 => {
                    if let Some(at) = free(rng, &mut touched) {
                        let c = &self.payload[at];
                        let types = if self.through { c.ty.same } else { c.ty.wider };
                        if let Some(ty) = (!types.is_empty()).then(|| pick(rng, types)) {
                            let null = if c.nullable || rng.bool() { "NULL" } else { "NOT NULL" };
                            let place = if rng.u8(..3) == 0 { " FIRST" } else { "" };
                            clauses.push(format!("MODIFY {} {ty} {null}{place}", c.name));
                        }
                    }
                }
                7 if !self.through => {
                    if let Some(at) = free(rng, &mut touched) {
                        let c = &self.payload[at];
                        let ty = if c.ty.wider.is_empty() { c.ty.ddl } else { pick(rng, c.ty.wider) };
                        clauses.push(format!("CHANGE {} c{} {ty} {}", c.name, clauses.len(), if c.nullable { "NULL" } else { "NOT NULL" }));
                    }
                }
                8 if !self.through => {
                    if let Some(at) = free(rng, &mut touched) {
                        clauses.push(format!("RENAME COLUMN {} TO r{}", self.payload[at].name, clauses.len()));
                    }
                }
                9 if !self.through && dropped == 0 => {
                    if let Some(at) = free(rng, &mut touched) {
                        dropped += 1;
                        clauses.push(format!("DROP COLUMN {}", self.payload[at].name));
                    }
                }
                // In place of the one that the server made for the foreign key.
                10 if self.relations.parent.is_some() && rng.bool() => clauses.push(format!("ADD INDEX i{} (f, n)", clauses.len())),
                10 => clauses.push(format!("ADD INDEX i{} (n, k0)", clauses.len())),
                11 if self.unique => clauses.push(format!("ADD UNIQUE INDEX i{} (u{})", clauses.len(), pick(rng, &["", ", n", " DESC"]))),
                12 => {
                    let at = rng.usize(..self.key.len());
                    let c = &self.key[at];
                    let types = if self.through { c.ty.same } else { c.ty.wider };
                    let mark = format!(" {} ", c.name);
                    if !types.is_empty() && !clauses.iter().any(|k| k.contains(&mark)) {
                        let ty = pick(rng, types);
                        let rename = !self.through && rng.u8(..3) == 0;
                        let name = if rename { format!("CHANGE {} kk{at}", c.name) } else { format!("MODIFY {}", c.name) };
                        clauses.push(format!("{name} {ty} NOT NULL"));
                    }
                }
                13 if has_primary && !clauses.iter().any(|c| c.contains("PRIMARY") || c.contains("CHANGE k")) => {
                    let mut order: Vec<usize> = (0..self.key.len()).collect();
                    rng.shuffle(&mut order);
                    let parts: Vec<String> = order.iter().map(|i| format!("k{i}{}", if descending[*i] { "" } else { " DESC" })).collect();
                    // Another order, or none: then a unique key of the same columns. Or one of more columns, so that no index of the new table makes
                    // the old key unique; writers that go on would write rows then which the old one refuses.
                    clauses.push(match rng.u8(..if self.through { 2 } else { 4 }) {
                        2 => format!("DROP PRIMARY KEY, ADD PRIMARY KEY (n, {})", parts.join(", ")),
                        3 => format!("DROP PRIMARY KEY, ADD UNIQUE KEY other (n, {}), ADD KEY beside ({})", parts.join(", "), parts[0]),
                        0 => format!("DROP PRIMARY KEY, ADD PRIMARY KEY ({})", parts.join(", ")),
                        _ => format!("DROP PRIMARY KEY, ADD UNIQUE KEY other ({})", parts.join(", ")),
                    });
                }
                14 => clauses.push(
                    pick(
                        rng,
                        &["FORCE", "COMMENT='it''s'", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8", "MODIFY n BIGINT NOT NULL DEFAULT 5 FIRST"],
                    )
                    .to_owned(),
                ),
                15 if !self.through && !self.poison && rng.bool() => {
                    self.poison = true;
                    clauses.push(pick(rng, &["ADD COLUMN poison TINYINT AS (n) STORED", "ADD UNIQUE INDEX poison (n)"]).to_owned());
                }
                _ => {}
            }
        }
        if clauses.is_empty() {
            clauses.push("FORCE".to_owned());
        }
        // A clause twice is no ALTER.
        clauses.dedup();
        let modified = clauses.iter().filter(|c| c.starts_with("MODIFY n")).count();
        if modified > 1 {
            let mut first = true;
            clauses.retain(|c| !c.starts_with("MODIFY n") || std::mem::take(&mut first));
        }
        clauses.join(", ")
    }
}

/// A parent that is there, most often, or none.
pub fn some_parent(rng: &mut Rng) -> String {
    if rng.u8(..4) == 0 { "NULL".to_owned() } else { rng.u8(1..=PARENTS).to_string() }
}

/// A column as an index part: texts and blobs need a prefix.
fn index_part(column: &Column) -> String {
    let ddl = column.ty.ddl;
    if ddl.starts_with("JSON") {
        "n".to_owned()
    } else if ddl.starts_with("TEXT") || ddl.starts_with("BLOB") {
        format!("{}(5)", column.name)
    } else {
        column.name.clone()
    }
}
