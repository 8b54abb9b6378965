//! `SHOW GRANTS`, read as far as it can be: for the privileges that nothing but doing would prove, and for those that decide what an account
//! is shown. Pure.

/// The lines of `SHOW GRANTS`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants(Vec<String>);

/// Privileges on tables: an account that has any of them on a table is shown it (manual, "INFORMATION_SCHEMA Introduction").
const ON_TABLES: [&str; 12] =
    ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "REFERENCES", "INDEX", "ALTER", "CREATE VIEW", "SHOW VIEW", "TRIGGER"];

/// One line: whether it takes away (a partial revoke), the privileges, and what they are on, to the end of the line.
struct Grant<'a> {
    revoked: bool,
    privileges: String,
    scope: &'a str,
}

impl Grant<'_> {
    fn has(&self, privilege: &str) -> bool {
        self.privileges.split(',').map(str::trim).any(|p| p == privilege || p == "ALL PRIVILEGES" || p == "ALL")
    }
}

impl Grants {
    /// As the server says them.
    pub fn new(lines: Vec<String>) -> Self {
        Self(lines)
    }

    fn lines(&self) -> impl Iterator<Item = Grant<'_>> {
        self.0.iter().filter_map(|line| {
            let upper = line.to_uppercase();
            let (revoked, rest) = match (upper.strip_prefix("GRANT "), upper.strip_prefix("REVOKE ")) {
                (Some(rest), _) => (false, rest),
                (_, Some(rest)) => (true, rest),
                _ => return None,
            };
            let at = rest.find(" ON ")?;
            // The same place in the line as written: names keep their case.
            let scope = line.get(line.len() - rest.len() + at + 4..)?;
            Some(Grant { revoked, privileges: rest[..at].to_owned(), scope })
        })
    }

    /// Whether they give a privilege on a whole database. Roles that are not in the lines, and grants on single tables, are not seen: "no"
    /// means "not by these lines".
    pub fn gives(&self, privilege: &str, database: &str) -> bool {
        let mut given = false;
        for line in self.lines() {
            if line.has(privilege) && covers(line.scope, database, line.revoked) {
                given = !line.revoked;
            }
        }
        given
    }

    /// Whether they show the account each table of the server: by one privilege on all of them that is taken away nowhere.
    pub fn sees_all_tables(&self) -> bool {
        ON_TABLES.iter().any(|privilege| {
            self.lines().any(|line| !line.revoked && line.scope.starts_with("*.*") && line.has(privilege))
                && !self.lines().any(|line| line.revoked && line.has(privilege))
        })
    }
}

/// Whether `` `shop%`.* TO … `` or `*.* TO …` covers a database.
fn covers(scope: &str, database: &str, literal: bool) -> bool {
    if scope.starts_with("*.*") {
        return true;
    }
    let Some(inner) = scope.strip_prefix('`') else { return false };
    let mut name = String::new();
    let mut characters = inner.chars().peekable();
    loop {
        match characters.next() {
            Some('`') if characters.peek() == Some(&'`') => {
                characters.next();
                name.push('`');
            }
            Some('`') => break,
            Some(c) => name.push(c),
            None => return false,
        }
    }
    if !characters.collect::<String>().starts_with(".*") {
        return false;
    }
    if literal { name == database } else { like(&name, database) }
}

/// Whether a text is like a pattern of the server's own: `%`, `_`, and `\` before a character that stands for itself.
pub fn like(pattern: &str, text: &str) -> bool {
    alike(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
}

fn alike(pattern: &[char], text: &[char]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        (['%', rest @ ..], _) => (0..=text.len()).any(|skip| alike(rest, &text[skip..])),
        (['_', rest @ ..], [_, tail @ ..]) => alike(rest, tail),
        (['\\', c, rest @ ..], [first, tail @ ..]) => c == first && alike(rest, tail),
        ([c, rest @ ..], [first, tail @ ..]) => c == first && alike(rest, tail),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(lines: &[&str]) -> Grants {
        Grants::new(lines.iter().map(|line| (*line).to_owned()).collect())
    }

    #[test]
    fn grants_are_read() {
        for (lines, privilege, expected) in [
            (&["GRANT ALL PRIVILEGES ON *.* TO `a`@`%` WITH GRANT OPTION"][..], "DROP", true),
            (&["GRANT SELECT, LOCK TABLES ON *.* TO `a`@`%`"], "LOCK TABLES", true),
            (&["GRANT SELECT, LOCK TABLES ON *.* TO `a`@`%`"], "DROP", false),
            (&["GRANT USAGE ON *.* TO `a`@`%`", "GRANT DROP, ALTER ON `shop`.* TO `a`@`%`"], "ALTER", true),
            (&["GRANT DROP ON `sh%`.* TO `a`@`%`"], "DROP", true),
            (&["GRANT DROP ON `sh_p`.* TO `a`@`%`"], "DROP", true),
            (&["GRANT DROP ON `sh\\_p`.* TO `a`@`%`"], "DROP", false),
            (&["GRANT DROP ON `Shop`.* TO `a`@`%`"], "DROP", false),
            (&["GRANT DROP ON `shop`.`orders` TO `a`@`%`"], "DROP", false),
            (&["GRANT DROP ROLE ON *.* TO `a`@`%`"], "DROP", false),
            (&["GRANT `writer`@`%` TO `a`@`%`"], "DROP", false),
            (&["GRANT DROP ON *.* TO `a`@`%`", "REVOKE DROP ON `shop`.* FROM `a`@`%`"], "DROP", false),
            (&["GRANT DROP ON *.* TO `a`@`%`", "REVOKE DROP ON `sh%`.* FROM `a`@`%`"], "DROP", true),
            (&[""], "DROP", false),
        ] {
            assert_eq!(grants(lines).gives(privilege, "shop"), expected, "{privilege} by {lines:?}");
        }
        assert!(grants(&["GRANT DROP ON `a``b`.* TO x"]).gives("DROP", "a`b"));
    }

    #[test]
    fn all_tables_are_shown_by_one_privilege_on_all_of_them() {
        for (lines, expected) in [
            (&["GRANT ALL PRIVILEGES ON *.* TO `a`@`%`"][..], true),
            (&["GRANT REPLICATION CLIENT, REFERENCES ON *.* TO `a`@`%`"], true),
            (&["GRANT SHOW VIEW ON *.* TO `a`@`%`"], true),
            (&["GRANT USAGE ON *.* TO `a`@`%`", "GRANT REFERENCES ON `shop`.* TO `a`@`%`"], false),
            (&["GRANT PROCESS, SHOW DATABASES, LOCK TABLES, EXECUTE ON *.* TO `a`@`%`"], false),
            (&["GRANT CREATE TEMPORARY TABLES, CREATE USER, CREATE ROLE ON *.* TO `a`@`%`"], false),
            (&["GRANT REFERENCES ON *.* TO `a`@`%`", "REVOKE REFERENCES ON `secret`.* FROM `a`@`%`"], false),
            (&["GRANT SELECT, REFERENCES ON *.* TO `a`@`%`", "REVOKE SELECT ON `secret`.* FROM `a`@`%`"], true),
            (&[], false),
        ] {
            assert_eq!(grants(lines).sees_all_tables(), expected, "{lines:?}");
        }
    }
}
