//! `SHOW GRANTS`, read as far as it can be: for the privileges that nothing but doing would prove. Pure.

/// Whether the lines of `SHOW GRANTS` give a privilege on a whole database. Roles that are not in the lines, and grants on single tables,
/// are not seen: "no" means "not by these lines".
pub fn gives(lines: &[String], privilege: &str, database: &str) -> bool {
    let mut given = false;
    for line in lines {
        let upper = line.to_uppercase();
        let (revoked, rest) = match (upper.strip_prefix("GRANT "), upper.strip_prefix("REVOKE ")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => continue,
        };
        let Some(at) = rest.find(" ON ") else { continue };
        let privileges = &rest[..at];
        let has = privileges.split(',').map(str::trim).any(|p| p == privilege || p == "ALL PRIVILEGES" || p == "ALL");
        // The same place in the line as written: names keep their case.
        let Some(scope) = line.get(line.len() - rest.len() + at + 4..) else { continue };
        if has && covers(scope, database, revoked) {
            given = !revoked;
        }
    }
    given
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
    if literal { name == database } else { like(&name.chars().collect::<Vec<_>>(), &database.chars().collect::<Vec<_>>()) }
}

/// The pattern of a database in GRANT: `%`, `_`, and `\` before a character that stands for itself.
fn like(pattern: &[char], text: &[char]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        (['%', rest @ ..], _) => (0..=text.len()).any(|skip| like(rest, &text[skip..])),
        (['_', rest @ ..], [_, tail @ ..]) => like(rest, tail),
        (['\\', c, rest @ ..], [first, tail @ ..]) => c == first && like(rest, tail),
        ([c, rest @ ..], [first, tail @ ..]) => c == first && like(rest, tail),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let owned: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
            assert_eq!(gives(&owned, privilege, "shop"), expected, "{privilege} by {lines:?}");
        }
        assert!(gives(&["GRANT DROP ON `a``b`.* TO x".to_owned()], "DROP", "a`b"));
    }
}
