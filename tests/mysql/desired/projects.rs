//! Tables of three public projects as they were in one release and as they are in a later one, in words of our own and reduced. They follow the
//! projects' files as far as those could be read; a few details are put together from the patches between the releases, and where both sides
//! of a change were not at hand, one of them is near to what was shipped and not to the letter:
//!
//! * Roundcube (`SQL/mysql.initial.sql`): schema 2014042900 of 1.0, and 2020020101 of 1.5. The longer `language` is of a later one.
//! * PowerDNS (`modules/gmysqlbackend/schema.mysql.sql` and its `…_to_…` files): 3.4, and 4.7. Long texts are shorter before, since 64000
//!   characters do not fit into a row of utf8mb4.
//! * MediaWiki (`maintenance/tables.sql`, `sql/mysql/tables-generated.sql` and the patches beside it): 1.35, and 1.43. The earlier side is put
//!   together from the list of patches; `pagelinks` stops where `pl_target_id` is added.

/// Name, before, after: the definitions without `CREATE TABLE name`.
pub type Table = (&'static str, &'static str, &'static str);

pub const ROUNDCUBE: &[Table] = &[
    (
        "users",
        "(user_id INT UNSIGNED NOT NULL AUTO_INCREMENT, username VARCHAR(128) BINARY NOT NULL, mail_host VARCHAR(128) NOT NULL,
          created DATETIME NOT NULL DEFAULT '1000-01-01 00:00:00', last_login DATETIME, language VARCHAR(5), preferences LONGTEXT,
          PRIMARY KEY (user_id), UNIQUE username (username, mail_host))
         /*!40000 ENGINE=INNODB */ /*!40101 CHARACTER SET utf8mb3 COLLATE utf8mb3_general_ci */;",
        "(user_id INT UNSIGNED NOT NULL AUTO_INCREMENT, username VARCHAR(128) BINARY NOT NULL, mail_host VARCHAR(128) NOT NULL,
          created DATETIME NOT NULL DEFAULT '1000-01-01 00:00:00', last_login DATETIME, failed_login DATETIME,
          failed_login_counter INT UNSIGNED, language VARCHAR(16), preferences LONGTEXT,
          PRIMARY KEY (user_id), UNIQUE username (username, mail_host))
         ROW_FORMAT=DYNAMIC ENGINE=INNODB CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;",
    ),
    (
        "session",
        "(sess_id VARCHAR(128) NOT NULL, created DATETIME NOT NULL DEFAULT '1000-01-01 00:00:00',
          changed DATETIME NOT NULL DEFAULT '1000-01-01 00:00:00', ip VARCHAR(40) NOT NULL, vars MEDIUMTEXT NOT NULL,
          PRIMARY KEY (sess_id), INDEX changed_index (changed)) CHARACTER SET utf8mb3 COLLATE utf8mb3_general_ci",
        "(sess_id VARCHAR(128) NOT NULL, changed DATETIME NOT NULL DEFAULT '1000-01-01 00:00:00', ip VARCHAR(40) NOT NULL,
          vars MEDIUMTEXT NOT NULL, PRIMARY KEY (sess_id), INDEX changed_index (changed))
         ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
    ),
    (
        "cache_index",
        "(user_id INT UNSIGNED NOT NULL, mailbox VARCHAR(255) BINARY NOT NULL, expires DATETIME, valid TINYINT(1) NOT NULL DEFAULT '0',
          data LONGTEXT NOT NULL,
          CONSTRAINT user_id_fk_cache_index FOREIGN KEY (user_id) REFERENCES users (user_id) ON DELETE CASCADE ON UPDATE CASCADE,
          INDEX expires_index (expires), PRIMARY KEY (user_id, mailbox)) CHARACTER SET utf8mb3 COLLATE utf8mb3_general_ci",
        "(user_id INT UNSIGNED NOT NULL, mailbox VARCHAR(255) BINARY NOT NULL, expires DATETIME, valid TINYINT(1) NOT NULL DEFAULT '0',
          data LONGTEXT NOT NULL,
          CONSTRAINT user_id_fk_cache_index FOREIGN KEY (user_id) REFERENCES users (user_id) ON DELETE CASCADE ON UPDATE CASCADE,
          INDEX expires_index (expires), PRIMARY KEY (user_id, mailbox))
         ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
    ),
    (
        "identities",
        "(identity_id INT UNSIGNED NOT NULL AUTO_INCREMENT, user_id INT UNSIGNED NOT NULL,
          changed DATETIME NOT NULL DEFAULT '1000-01-01 00:00:00', del TINYINT(1) NOT NULL DEFAULT '0', standard TINYINT(1) NOT NULL DEFAULT '0',
          name VARCHAR(128) NOT NULL, email VARCHAR(128) NOT NULL, `reply-to` VARCHAR(128) NOT NULL DEFAULT '', signature TEXT,
          html_signature TINYINT(1) NOT NULL DEFAULT '0', PRIMARY KEY (identity_id),
          CONSTRAINT user_id_fk_identities FOREIGN KEY (user_id) REFERENCES users (user_id) ON DELETE CASCADE ON UPDATE CASCADE,
          INDEX user_identities_index (user_id, del), INDEX email_identities_index (email, del))
         CHARACTER SET utf8mb3 COLLATE utf8mb3_general_ci",
        "(identity_id INT UNSIGNED NOT NULL AUTO_INCREMENT, user_id INT UNSIGNED NOT NULL,
          changed DATETIME NOT NULL DEFAULT '1000-01-01 00:00:00', del TINYINT(1) NOT NULL DEFAULT '0', standard TINYINT(1) NOT NULL DEFAULT '0',
          name VARCHAR(128) NOT NULL, email VARCHAR(128) NOT NULL, `reply-to` VARCHAR(128) NOT NULL DEFAULT '', signature LONGTEXT,
          html_signature TINYINT(1) NOT NULL DEFAULT '0', PRIMARY KEY (identity_id),
          CONSTRAINT user_id_fk_identities FOREIGN KEY (user_id) REFERENCES users (user_id) ON DELETE CASCADE ON UPDATE CASCADE,
          INDEX user_identities_index (user_id, del), INDEX email_identities_index (email, del))
         ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
    ),
];

pub const POWERDNS: &[Table] = &[
    (
        "domains",
        "(id INT AUTO_INCREMENT, name VARCHAR(255) NOT NULL, master VARCHAR(128), last_check INT, type VARCHAR(6) NOT NULL,
          notified_serial INT, account VARCHAR(40), PRIMARY KEY (id), UNIQUE INDEX name_index (name)) Engine=InnoDB",
        "(id INT AUTO_INCREMENT, name VARCHAR(255) NOT NULL, master VARCHAR(128), last_check INT, type VARCHAR(8) NOT NULL,
          notified_serial INT UNSIGNED, account VARCHAR(40) CHARACTER SET 'utf8mb3', options VARCHAR(64000), catalog VARCHAR(255),
          PRIMARY KEY (id), UNIQUE INDEX name_index (name), INDEX catalog_idx (catalog)) Engine=InnoDB CHARACTER SET 'latin1'",
    ),
    (
        "records",
        "(id INT AUTO_INCREMENT, domain_id INT, name VARCHAR(255), type VARCHAR(10), content VARCHAR(12000), ttl INT, prio INT,
          change_date INT, disabled TINYINT(1) DEFAULT 0, ordername VARCHAR(255) BINARY, auth TINYINT(1) DEFAULT 1, PRIMARY KEY (id),
          INDEX nametype_index (name, type), INDEX domain_id (domain_id), INDEX recordorder (domain_id, ordername)) Engine=InnoDB",
        "(id BIGINT AUTO_INCREMENT, domain_id INT, name VARCHAR(255), type VARCHAR(10), content VARCHAR(64000), ttl INT, prio INT,
          disabled TINYINT(1) DEFAULT 0, ordername VARCHAR(255) BINARY, auth TINYINT(1) DEFAULT 1, PRIMARY KEY (id),
          INDEX nametype_index (name, type), INDEX domain_id (domain_id), INDEX ordername (ordername)) Engine=InnoDB CHARACTER SET 'latin1'",
    ),
    (
        "comments",
        "(id INT AUTO_INCREMENT, domain_id INT NOT NULL, name VARCHAR(255) NOT NULL, type VARCHAR(10) NOT NULL, modified_at INT NOT NULL,
          account VARCHAR(40) NOT NULL, comment VARCHAR(12000) NOT NULL, PRIMARY KEY (id), INDEX comments_domain_id_idx (domain_id),
          INDEX comments_name_type_idx (name, type), INDEX comments_order_idx (domain_id, modified_at)) Engine=InnoDB",
        "(id INT AUTO_INCREMENT, domain_id INT NOT NULL, name VARCHAR(255) NOT NULL, type VARCHAR(10) NOT NULL, modified_at INT NOT NULL,
          account VARCHAR(40) CHARACTER SET 'utf8mb3', comment TEXT CHARACTER SET 'utf8mb3' NOT NULL, PRIMARY KEY (id),
          INDEX comments_name_type_idx (name, type), INDEX comments_order_idx (domain_id, modified_at)) Engine=InnoDB CHARACTER SET 'latin1'",
    ),
    (
        "cryptokeys",
        "(id INT AUTO_INCREMENT, domain_id INT NOT NULL, flags INT NOT NULL, active BOOL, content TEXT, PRIMARY KEY (id),
          INDEX domainidindex (domain_id)) Engine=InnoDB",
        "(id INT AUTO_INCREMENT, domain_id INT NOT NULL, flags INT NOT NULL, active BOOL, published BOOL DEFAULT 1, content TEXT,
          PRIMARY KEY (id), INDEX domainidindex (domain_id)) Engine=InnoDB CHARACTER SET 'latin1'",
    ),
];

pub const MEDIAWIKI: &[Table] = &[
    (
        "page",
        "(page_id INT UNSIGNED NOT NULL PRIMARY KEY AUTO_INCREMENT, page_namespace INT NOT NULL, page_title VARCHAR(255) BINARY NOT NULL,
          page_restrictions TINYBLOB NULL, page_is_redirect TINYINT UNSIGNED NOT NULL DEFAULT 0, page_is_new TINYINT UNSIGNED NOT NULL DEFAULT 0,
          page_random REAL UNSIGNED NOT NULL, page_touched BINARY(14) NOT NULL DEFAULT '', page_links_updated VARBINARY(14) NULL,
          page_latest INT UNSIGNED NOT NULL, page_len INT UNSIGNED NOT NULL, UNIQUE INDEX name_title (page_namespace, page_title),
          INDEX page_random (page_random), INDEX page_len (page_len),
          INDEX page_redirect_namespace_len (page_is_redirect, page_namespace, page_len)) ENGINE=InnoDB, DEFAULT CHARSET=binary",
        "(page_id INT UNSIGNED AUTO_INCREMENT NOT NULL, page_namespace INT NOT NULL, page_title VARBINARY(255) NOT NULL,
          page_is_redirect TINYINT UNSIGNED DEFAULT 0 NOT NULL, page_is_new TINYINT UNSIGNED DEFAULT 0 NOT NULL,
          page_random DOUBLE PRECISION UNSIGNED NOT NULL, page_touched BINARY(14) NOT NULL, page_links_updated BINARY(14) DEFAULT NULL,
          page_latest INT UNSIGNED NOT NULL, page_len INT UNSIGNED NOT NULL, page_content_model VARBINARY(32) DEFAULT NULL,
          page_lang VARBINARY(35) DEFAULT NULL, UNIQUE INDEX page_name_title (page_namespace, page_title), INDEX page_random (page_random),
          INDEX page_len (page_len), INDEX page_redirect_namespace_len (page_is_redirect, page_namespace, page_len), PRIMARY KEY (page_id))
         ENGINE=InnoDB, DEFAULT CHARSET=binary",
    ),
    (
        "watchlist",
        "(wl_id INT UNSIGNED NOT NULL PRIMARY KEY AUTO_INCREMENT, wl_user INT UNSIGNED NOT NULL, wl_namespace INT NOT NULL DEFAULT 0,
          wl_title VARCHAR(255) BINARY NOT NULL DEFAULT '', wl_notificationtimestamp VARBINARY(14),
          UNIQUE INDEX wl_user (wl_user, wl_namespace, wl_title), INDEX namespace_title (wl_namespace, wl_title),
          INDEX wl_user_notificationtimestamp (wl_user, wl_notificationtimestamp)) ENGINE=InnoDB, DEFAULT CHARSET=binary",
        "(wl_id INT UNSIGNED AUTO_INCREMENT NOT NULL, wl_user INT UNSIGNED NOT NULL, wl_namespace INT DEFAULT 0 NOT NULL,
          wl_title VARBINARY(255) DEFAULT '' NOT NULL, wl_notificationtimestamp BINARY(14) DEFAULT NULL,
          UNIQUE INDEX wl_user (wl_user, wl_namespace, wl_title), INDEX wl_namespace_title (wl_namespace, wl_title),
          INDEX wl_user_notificationtimestamp (wl_user, wl_notificationtimestamp), PRIMARY KEY (wl_id)) ENGINE=InnoDB, DEFAULT CHARSET=binary",
    ),
    (
        "pagelinks",
        "(pl_from INT UNSIGNED NOT NULL DEFAULT 0, pl_from_namespace INT NOT NULL DEFAULT 0, pl_namespace INT NOT NULL DEFAULT 0,
          pl_title VARCHAR(255) BINARY NOT NULL DEFAULT '', PRIMARY KEY (pl_from, pl_namespace, pl_title),
          INDEX pl_namespace (pl_namespace, pl_title, pl_from),
          INDEX pl_backlinks_namespace (pl_from_namespace, pl_namespace, pl_title, pl_from)) ENGINE=InnoDB, DEFAULT CHARSET=binary",
        "(pl_from INT UNSIGNED DEFAULT 0 NOT NULL, pl_target_id BIGINT UNSIGNED NOT NULL, pl_from_namespace INT DEFAULT 0 NOT NULL,
          pl_namespace INT DEFAULT 0 NOT NULL, pl_title VARBINARY(255) DEFAULT '' NOT NULL, INDEX pl_target_id (pl_target_id, pl_from),
          INDEX pl_backlinks_namespace_target_id (pl_from_namespace, pl_target_id, pl_from), PRIMARY KEY (pl_from, pl_namespace, pl_title))
         ENGINE=InnoDB, DEFAULT CHARSET=binary",
    ),
    (
        "sites",
        "(site_id INT UNSIGNED NOT NULL PRIMARY KEY AUTO_INCREMENT, site_global_key VARBINARY(64) NOT NULL, site_type VARBINARY(32) NOT NULL,
          site_language VARBINARY(32) NOT NULL, site_domain VARCHAR(255) NOT NULL, site_data BLOB NOT NULL, site_forward BOOL NOT NULL,
          UNIQUE INDEX sites_global_key (site_global_key), INDEX sites_type (site_type), INDEX sites_language (site_language),
          INDEX sites_domain (site_domain), INDEX sites_forward (site_forward)) ENGINE=InnoDB, DEFAULT CHARSET=binary",
        "(site_id INT UNSIGNED AUTO_INCREMENT NOT NULL, site_global_key VARBINARY(64) NOT NULL, site_type VARBINARY(32) NOT NULL,
          site_language VARBINARY(35) NOT NULL, site_domain VARCHAR(255) NOT NULL, site_data BLOB NOT NULL, site_forward TINYINT(1) NOT NULL,
          UNIQUE INDEX site_global_key (site_global_key), PRIMARY KEY (site_id)) ENGINE=InnoDB, DEFAULT CHARSET=binary",
    ),
    (
        "revision",
        "(rev_id INT UNSIGNED NOT NULL PRIMARY KEY AUTO_INCREMENT, rev_page INT UNSIGNED NOT NULL, rev_comment_id BIGINT UNSIGNED NOT NULL DEFAULT 0,
          rev_actor BIGINT UNSIGNED NOT NULL DEFAULT 0, rev_timestamp BINARY(14) NOT NULL DEFAULT '', rev_minor_edit TINYINT UNSIGNED NOT NULL DEFAULT 0,
          rev_len INT UNSIGNED, rev_parent_id INT UNSIGNED DEFAULT NULL, rev_sha1 VARBINARY(32) NOT NULL DEFAULT '',
          INDEX rev_page_id (rev_page, rev_id), INDEX rev_timestamp (rev_timestamp), INDEX page_timestamp (rev_page, rev_timestamp),
          INDEX rev_actor_timestamp (rev_actor, rev_timestamp, rev_id)) ENGINE=InnoDB, DEFAULT CHARSET=binary",
        "(rev_id BIGINT UNSIGNED AUTO_INCREMENT NOT NULL, rev_page INT UNSIGNED NOT NULL, rev_comment_id BIGINT UNSIGNED NOT NULL,
          rev_actor BIGINT UNSIGNED NOT NULL, rev_timestamp BINARY(14) NOT NULL, rev_minor_edit TINYINT UNSIGNED DEFAULT 0 NOT NULL,
          rev_len INT UNSIGNED DEFAULT NULL, rev_parent_id BIGINT UNSIGNED DEFAULT NULL, rev_sha1 VARBINARY(32) DEFAULT '' NOT NULL,
          INDEX rev_timestamp (rev_timestamp), INDEX rev_page_timestamp (rev_page, rev_timestamp),
          INDEX rev_actor_timestamp (rev_actor, rev_timestamp, rev_id), PRIMARY KEY (rev_id)) ENGINE=InnoDB, DEFAULT CHARSET=binary",
    ),
];
