//! Every SQL statement of every service fits the schema and the rights of a role of its service. There are no
//! `query!` macros (the first build has no database): this is what checks instead.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use testkit::{Postgres, TestDatabase};

use super::rules::files;

/// The services that own data.
const OWNERS: [&str; 4] = ["identity", "action", "scheduler", "metrics"];
/// What a statement begins with.
const VERBS: [&str; 7] = [
    "SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "LOCK", "MERGE",
];

/// A statement: file, name and text.
struct Statement {
    path: String,
    name: String,
    sql: String,
}

fn of_service(service: &str) -> Vec<String> {
    let folder = format!("services/{service}/src/");
    files::rust()
        .into_iter()
        .filter(|path| path.starts_with(&folder))
        .collect()
}

/// Texts of a file's constants, by name. (What is no literal is no statement either: running it is an error below.)
fn constants(code: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (at, _) in code.match_indices("const ") {
        let line = code[..at].rsplit('\n').next().unwrap_or_default().trim();
        let Some((head, value)) = code[at + 6..].split_once('=') else {
            continue;
        };
        let Some((name, kind)) = head.split_once(':') else {
            continue;
        };
        let visible = line.is_empty() || line.starts_with("pub");
        if visible && ["&str", "&'static str"].contains(&kind.trim()) {
            let text = value.trim_start();
            let text = match text.strip_prefix("concat!(") {
                Some(parts) => joined(parts, code),
                None => literal(text).map(|(text, _)| text),
            };
            found.extend(text.map(|text| (name.trim().to_owned(), text)));
        }
    }
    found
}

/// What `concat!` makes of literals and of macros of the same file that stand for one.
fn joined(mut parts: &str, code: &str) -> Option<String> {
    let mut value = String::new();
    loop {
        parts = parts.trim_start().trim_start_matches(',').trim_start();
        if parts.starts_with(')') {
            return Some(value);
        }
        let (text, rest) = match parts.split_once("!()") {
            Some((name, rest)) if !name.contains('"') => {
                let (_, body) = code.split_once(&format!("macro_rules! {name} {{"))?;
                (literal(body.split_once("=> {")?.1.trim_start())?.0, rest)
            }
            _ => literal(parts)?,
        };
        value.push_str(&text);
        parts = rest;
    }
}

/// The value of the string literal that a text begins with, and what comes after it.
fn literal(text: &str) -> Option<(String, &str)> {
    if let Some(raw) = text.strip_prefix('r') {
        let fence = "#".repeat(raw.len() - raw.trim_start_matches('#').len());
        let body = raw[fence.len()..].strip_prefix('"')?;
        let (value, rest) = body.split_once(&format!("\"{fence}"))?;
        return Some((value.to_owned(), rest));
    }
    let mut value = String::new();
    let mut rest = text.strip_prefix('"')?.chars().peekable();
    loop {
        match rest.next()? {
            '"' => {
                let left: usize = rest.map(char::len_utf8).sum();
                return Some((value, &text[text.len() - left..]));
            }
            '\\' => match rest.next()? {
                '\n' => while rest.next_if(|c| c.is_whitespace()).is_some() {},
                'n' => value.push('\n'),
                't' => value.push('\t'),
                c @ ('"' | '\\' | '\'') => value.push(c),
                other => panic!("\\{other} in SQL"),
            },
            c => value.push(c),
        }
    }
}

fn is_sql(text: &str) -> bool {
    text.split_whitespace()
        .next()
        .is_some_and(|word| VERBS.contains(&word))
}

fn statements(service: &str) -> Vec<Statement> {
    let store = format!("services/{service}/src/store");
    let mut all = Vec::new();
    for path in of_service(service)
        .into_iter()
        .filter(|path| path.starts_with(&store))
    {
        let sql = constants(&files::code(&path))
            .into_iter()
            .filter(|(_, text)| is_sql(text));
        all.extend(sql.map(|(name, sql)| Statement {
            path: path.clone(),
            name,
            sql,
        }));
    }
    all
}

/// A session in which a statement can be tried as a role.
struct Role {
    name: String,
    connection: PgConnection,
}

impl Role {
    async fn of(database: &TestDatabase, name: String) -> Self {
        let connection = PgConnection::connect(&database.url(&name)).await.unwrap();
        Self { name, connection }
    }

    /// Whether this role may run it: `Ok` with yes or no, `Err` when it does not fit the schema. Preparing alone
    /// asks for no rights on tables; explaining what was prepared does.
    async fn may(&mut self, sql: &str) -> Result<bool, String> {
        let denied = |error: sqlx::Error| match error
            .as_database_error()
            .and_then(|error| error.code())
            .as_deref()
        {
            Some("42501") => Ok(false),
            _ => Err(error.to_string()),
        };
        let prepare = format!("PREPARE statement AS {sql}");
        if let Err(error) = self.connection.execute(AssertSqlSafe(prepare)).await {
            return denied(error);
        }
        let parameters: i32 = sqlx::query_scalar("SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'statement'")
            .fetch_one(&mut self.connection)
            .await
            .unwrap();
        let nulls = vec!["NULL"; usize::try_from(parameters).unwrap()].join(", ");
        let arguments = if nulls.is_empty() {
            nulls
        } else {
            format!("({nulls})")
        };
        let explained = self
            .connection
            .execute(AssertSqlSafe(format!(
                "EXPLAIN EXECUTE statement{arguments}"
            )))
            .await;
        self.connection
            .execute("DEALLOCATE statement")
            .await
            .unwrap();
        explained.map_or_else(denied, |_| Ok(true))
    }
}

/// What is wrong with a statement, if anything.
async fn judge(sql: &str, tenant: &mut Role, system: &mut Role) -> Option<String> {
    match (tenant.may(sql).await, system.may(sql).await) {
        (Err(error), _) | (_, Err(error)) => Some(error),
        (Ok(false), Ok(false)) => Some(format!(
            "neither {} nor {} may run it",
            tenant.name, system.name
        )),
        _ => None,
    }
}

async fn roles(database: &TestDatabase, service: &str) -> (Role, Role) {
    (
        Role::of(database, format!("df_{service}")).await,
        Role::of(database, format!("df_{service}_system")).await,
    )
}

#[tokio::test]
async fn every_statement_fits_the_schema_and_a_role_of_its_service() {
    let database = Postgres::shared().await.database().await;
    let mut wrong = Vec::new();
    let mut counts = Vec::new();
    for service in OWNERS {
        let (mut tenant, mut system) = roles(&database, service).await;
        let statements = statements(service);
        for Statement { path, name, sql } in &statements {
            if let Some(error) = judge(sql, &mut tenant, &mut system).await {
                wrong.push(format!("{path}: {name}: {error}"));
            }
        }
        assert!(
            statements.len() > 10,
            "{service} has {} statements",
            statements.len()
        );
        counts.push(format!("{service} {}", statements.len()));
    }
    println!(
        "sql: every statement is prepared and permitted: {}",
        counts.join(", ")
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_statement_that_does_not_fit_is_noticed() {
    let database = Postgres::shared().await.database().await;
    let (mut tenant, mut system) = roles(&database, "action").await;
    let mut judged = async |sql: &str| {
        judge(sql, &mut tenant, &mut system)
            .await
            .unwrap_or_default()
    };
    assert_eq!(
        judged("SELECT id FROM action.actions WHERE org_id = $1 LIMIT $2").await,
        ""
    );
    assert!(
        judged("SELECT nothing FROM action.actions")
            .await
            .contains("nothing")
    );
    assert!(
        judged("SELECT id FROM action.actions WHERE id = 1::integer")
            .await
            .contains("operator")
    );
    assert!(judged("SELEC 1").await.contains("syntax"));
    // It exists, and both roles are forbidden it.
    assert!(
        judged("DELETE FROM action.actions")
            .await
            .contains("neither")
    );
    assert!(
        judged("SELECT id FROM identity.machines")
            .await
            .contains("neither")
    );
}

#[test]
fn literals_are_read_as_the_compiler_does() {
    let code = "const A: &str = \"SELECT \\\n    \\\"x\\\"\";\npub(crate) const B: &str = r#\"SELECT \"y\"\"#;\nconst C: &'static str =\n    r\"SELECT z\";\nconst N: i64 = 1;\nmacro_rules! m {\n    () => {\n        \"b\"\n    };\n}\nconst D: &str = concat!(\n    \"SELECT a\",\n    m!(),\n    \"c\"\n);";
    let read: Vec<(String, String)> = constants(code).into_iter().collect();
    let expected = [
        ("A", "SELECT \"x\""),
        ("B", "SELECT \"y\""),
        ("C", "SELECT z"),
        ("D", "SELECT abc"),
    ];
    assert_eq!(
        read,
        expected.map(|(name, text)| (name.to_owned(), text.to_owned()))
    );
}

/// The first argument of every call that runs SQL, with what is before it.
fn arguments(code: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    for function in [
        "query",
        "query_as",
        "query_scalar",
        "raw_sql",
        "query_with",
        "query_as_with",
        "query_scalar_with",
    ] {
        for (at, _) in code.match_indices(&format!("sqlx::{function}")) {
            let after = &code[at + "sqlx::".len() + function.len()..];
            let after = match after.strip_prefix("::<") {
                Some(types) => &types[types.find(">(").map_or(0, |end| end + 1)..],
                None => after,
            };
            if let Some(inside) = after.strip_prefix('(') {
                let end = inside.find([',', ')']).unwrap_or(inside.len());
                found.push((&code[..at], inside[..end].trim().to_owned()));
            }
        }
    }
    found
}

fn is_constant(name: &str) -> bool {
    !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// Whether a variable is a constant by another name: chosen by a `let` that names some and has no text of its own, or
/// a parameter for which every caller in the file gives one.
fn is_chosen(variable: &str, before: &str, code: &str) -> bool {
    let names_one = |text: &str| {
        text.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(is_constant)
    };
    if let Some(at) = before.rfind(&format!("let {variable} = ")) {
        let statement = before[at..].split(';').next().unwrap_or_default();
        return names_one(statement) && !statement.contains('"') && !statement.contains("format!");
    }
    let Some((head, _)) = before.rsplit_once(&format!("{variable}: &'static str")) else {
        return false;
    };
    let Some((_, function)) = head.rsplit_once("fn ") else {
        return false;
    };
    let private = !head[..head.len() - function.len()].ends_with("pub async fn ");
    let call = format!("{}(", function.split('(').next().unwrap_or_default());
    let begins = |at: usize| {
        !code[..at].ends_with("fn ")
            && !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
    };
    let mut calls = code
        .match_indices(&call)
        .filter(|(at, _)| begins(*at))
        .peekable();
    private
        && calls.peek().is_some()
        && calls.all(|(at, _)| names_one(code[at..].split(')').next().unwrap_or_default()))
}

/// The file with the statements of this one, if it has one.
fn of_sql(path: &str) -> Option<String> {
    let sql = format!("{}/sql.rs", path.strip_suffix(".rs")?);
    files::rust().contains(&sql).then_some(sql)
}

#[test]
fn sql_is_in_the_store_in_constants_that_are_all_used() {
    let mut wrong = Vec::new();
    for path in files::rust()
        .into_iter()
        .filter(|path| files::is_service(path))
    {
        let code = files::code(&path);
        let in_store = files::module(&path).is_some_and(|module| module[0] == "store");
        if code.contains("AssertSqlSafe")
            || code.contains("use sqlx::query")
            || code.contains("QueryBuilder")
        {
            wrong.push(format!("{path}: SQL that no test can prepare"));
        }
        let constants = constants(&code);
        // Long statements have a file of their own: `a/sql.rs`, for `a.rs` alone.
        let beside = of_sql(&path)
            .map(|sql| self::constants(&files::code(&sql)))
            .unwrap_or_default();
        for (before, argument) in arguments(&code) {
            let text = match argument.strip_prefix("sql::") {
                Some(name) => beside.get(name),
                None => constants.get(&argument),
            };
            let known = text.is_some_and(|text| is_sql(text));
            if !in_store {
                wrong.push(format!("{path}: runs SQL outside the store"));
            } else if !known && !is_chosen(&argument, before, &code) {
                wrong.push(format!(
                    "{path}: runs `{argument}`, which is no constant with a statement"
                ));
            }
        }
        if in_store {
            let user = path.strip_suffix("/sql.rs").map(|of| format!("{of}.rs"));
            let code = code + &user.map(|user| files::code(&user)).unwrap_or_default();
            let words: Vec<&str> = code
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .collect();
            let unused: BTreeSet<&String> = constants
                .keys()
                .filter(|name| words.iter().filter(|word| *word == name).count() < 2)
                .collect();
            if !unused.is_empty() {
                wrong.push(format!("{path}: nobody uses {unused:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
