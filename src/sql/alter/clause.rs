//! What a clause can be.

use crate::sql::table::IndexPart;
use crate::sql::token::Span;

/// A clause and where it stands in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedClause {
    /// What it does.
    pub clause: Clause,
    /// From its first to its last token.
    pub span: Span,
    /// Its tokens, without comments.
    pub(super) tokens: Vec<Span>,
}

/// Where a column goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// `FIRST`
    First,
    /// `AFTER column`; the name is one of the table as the ALTER leaves it.
    After(String),
}

/// Attributes found in a column definition outside of parentheses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnAttributes {
    /// `AUTO_INCREMENT`
    pub auto_increment: bool,
    /// `UNIQUE [KEY]`: the server makes an index.
    pub unique: bool,
    /// `[PRIMARY] KEY`
    pub primary: bool,
    /// `[GENERATED ALWAYS] AS (…)`
    pub generated: bool,
    /// A `CHECK (…)`, named or not.
    pub check: bool,
    /// `REFERENCES …`: a foreign key since MySQL 9.0, ignored before.
    pub references: bool,
}

/// A column in an ADD, MODIFY or CHANGE clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSpec {
    /// The (new) name.
    pub name: String,
    /// FIRST or AFTER, if given.
    pub position: Option<Position>,
    /// What stands in the definition.
    pub attributes: ColumnAttributes,
}

/// Kind of an added index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexKind {
    /// An ordinary index.
    BTree,
    /// `FULLTEXT`
    FullText,
    /// `SPATIAL`
    Spatial,
}

/// An index in an ADD clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedIndex {
    /// `None` if the server picks the name.
    pub name: Option<String>,
    /// Whether it is UNIQUE.
    pub unique: bool,
    /// What it is.
    pub kind: IndexKind,
    /// Its parts in order.
    pub parts: Vec<IndexPart>,
}

/// What an ADD clause adds; its list form adds several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableElement {
    /// `[COLUMN] name definition`
    Column(ColumnSpec),
    /// `{INDEX|KEY|UNIQUE|FULLTEXT|SPATIAL} …`
    Index(AddedIndex),
    /// `PRIMARY KEY (…)`
    PrimaryKey {
        /// Its parts in order.
        parts: Vec<IndexPart>,
    },
    /// `[CONSTRAINT name] CHECK (…)`
    Check {
        /// `None` if the server picks the name.
        name: Option<String>,
    },
    /// `[CONSTRAINT name] FOREIGN KEY …`
    ForeignKey {
        /// `None` if the server picks the name.
        name: Option<String>,
    },
}

/// One clause of an ALTER TABLE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clause {
    /// `ADD …`; several elements in `ADD [COLUMN] (…, …)`.
    Add {
        /// What is added.
        elements: Vec<TableElement>,
    },
    /// `DROP [COLUMN] name`
    DropColumn { name: String },
    /// `MODIFY [COLUMN] name definition`
    ModifyColumn(ColumnSpec),
    /// `CHANGE [COLUMN] old new definition`
    ChangeColumn {
        /// Its name before.
        old: String,
        /// What it becomes.
        new: ColumnSpec,
    },
    /// `RENAME COLUMN old TO new`
    RenameColumn {
        /// Its name before.
        old: String,
        /// Its name after.
        new: String,
    },
    /// `ALTER [COLUMN] name {SET DEFAULT …|DROP DEFAULT}`
    AlterColumnDefault { name: String },
    /// `ALTER [COLUMN] name SET {VISIBLE|INVISIBLE}`
    AlterColumnVisibility {
        name: String,
        /// Whether it becomes visible.
        visible: bool,
    },
    /// `DROP PRIMARY KEY`
    DropPrimaryKey,
    /// `DROP {INDEX|KEY} name`
    DropIndex { name: String },
    /// `RENAME {INDEX|KEY} old TO new`
    RenameIndex {
        /// Its name before.
        old: String,
        /// Its name after.
        new: String,
    },
    /// `ALTER INDEX name {VISIBLE|INVISIBLE}`
    AlterIndexVisibility {
        name: String,
        /// Whether it becomes visible.
        visible: bool,
    },
    /// `DROP CHECK name`
    DropCheck { name: String },
    /// `ALTER {CHECK|CONSTRAINT} name [NOT] ENFORCED`
    AlterCheck {
        name: String,
        /// Whether it is enforced from then on.
        enforced: bool,
    },
    /// `DROP CONSTRAINT name`: a check, a unique key, the primary key or a foreign key.
    DropConstraint { name: String },
    /// `DROP FOREIGN KEY name`
    DropForeignKey { name: String },
    /// `CONVERT TO CHARACTER SET charset [COLLATE collation]`
    ConvertToCharset {
        /// `DEFAULT` or a name, as written.
        charset: String,
        /// If given.
        collation: Option<String>,
    },
    /// A table option.
    TableOption {
        /// Upper case; `CHARACTER SET` is `CHARSET`, a leading `DEFAULT` is left out.
        name: String,
        /// As written, without quotes if it was a string.
        value: String,
    },
    /// `FORCE`
    Force,
    /// `ORDER BY …`
    OrderBy,
    /// `{ENABLE|DISABLE} KEYS`: nothing on InnoDB.
    Keys,
    /// `{WITH|WITHOUT} VALIDATION`
    Validation,
    /// `PARTITION BY …`
    PartitionBy,
    /// `REMOVE PARTITIONING`
    RemovePartitioning,
    /// `{ADD|REORGANIZE|COALESCE|REBUILD} PARTITION …`: rearranges partitions, keeps every row.
    RearrangePartition {
        /// The verb, upper case.
        verb: &'static str,
    },
    /// `{DROP|TRUNCATE|EXCHANGE|DISCARD|IMPORT} PARTITION …`: changes which rows there are.
    ChangePartitionData {
        /// The verb, upper case.
        verb: &'static str,
    },
    /// `{ANALYZE|CHECK|OPTIMIZE|REPAIR} PARTITION …`: no schema change.
    MaintainPartition {
        /// The verb, upper case.
        verb: &'static str,
    },
    /// `RENAME [TO|AS|=] name`
    RenameTable {
        /// The new name.
        new: String,
    },
    /// `ALGORITHM [=] …`
    Algorithm,
    /// `LOCK [=] …`
    Lock,
    /// `{DISCARD|IMPORT} TABLESPACE`
    Tablespace,
    /// `SECONDARY_{LOAD|UNLOAD}`
    SecondaryEngineLoad,
}
