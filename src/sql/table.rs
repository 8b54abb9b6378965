//! A table as the engine sees it: what the inspector read from the server, as plain values.

/// The type of a column, as far as the engine must tell types apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnType {
    /// TINYINT (8) … BIGINT (64 bits).
    Integer {
        bits: u8,
        unsigned: bool,
    },
    Decimal {
        precision: u8,
        scale: u8,
        unsigned: bool,
    },
    /// FLOAT or DOUBLE.
    Float {
        double: bool,
    },
    Bit {
        width: u8,
    },
    Year,
    Date,
    /// Fractional digits 0–6.
    Time {
        fsp: u8,
    },
    DateTime {
        fsp: u8,
    },
    Timestamp {
        fsp: u8,
    },
    /// Length in characters.
    Char {
        length: u32,
    },
    VarChar {
        length: u32,
    },
    /// TINYTEXT … LONGTEXT.
    Text,
    /// Length in bytes.
    Binary {
        length: u32,
    },
    VarBinary {
        length: u32,
    },
    /// TINYBLOB … LONGBLOB.
    Blob,
    /// The labels, in order, unescaped.
    Enum {
        labels: Vec<String>,
    },
    Set {
        labels: Vec<String>,
    },
    Json,
    Geometry,
    Vector,
    /// A type this version does not know: carried as it is, never part of a key.
    Other(String),
}

/// Whether and how the server computes a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generated {
    No,
    Virtual,
    Stored,
}

/// One column, in table order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub column_type: ColumnType,
    /// `information_schema.columns.column_type`, e.g. `int unsigned`.
    pub type_text: String,
    /// Character set and collation of a string column.
    pub charset: Option<String>,
    pub collation: Option<String>,
    pub nullable: bool,
    pub generated: Generated,
    pub auto_increment: bool,
    pub has_default: bool,
    pub invisible: bool,
}

/// One part of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexPart {
    /// The column, or `None` for an expression (functional key part).
    pub column: Option<String>,
    /// Length of a prefix part.
    pub prefix: Option<u32>,
    pub descending: bool,
}

/// Whether an index begins with these columns, each whole; `whole`: and has no other.
pub fn leads(parts: &[IndexPart], columns: &[String], whole: bool) -> bool {
    (if whole { parts.len() == columns.len() } else { parts.len() >= columns.len() })
        && parts
            .iter()
            .zip(columns)
            .all(|(part, column)| part.prefix.is_none() && part.column.as_ref().is_some_and(|c| c.to_lowercase() == column.to_lowercase()))
}

/// One index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// `PRIMARY` for the primary key.
    pub name: String,
    pub unique: bool,
    /// An invisible index cannot be named in FORCE INDEX.
    pub visible: bool,
    /// `BTREE`, `FULLTEXT`, `SPATIAL`, …
    pub kind: String,
    pub parts: Vec<IndexPart>,
}

/// A table's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDefinition {
    pub name: String,
    pub columns: Vec<Column>,
    pub indexes: Vec<Index>,
}

impl TableDefinition {
    /// The column of this name; column names are case-insensitive in MySQL.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name.to_lowercase() == name.to_lowercase())
    }
}
