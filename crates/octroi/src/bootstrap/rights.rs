//! The statements that create the roles and the schemas, and grant the privileges.

use octroi_server::services::{BILLING, LICENSING, NOTIFICATION};

/// The services: each has a schema of this name.
pub(super) const SERVICES: [&str; 3] = [LICENSING.name, BILLING.name, NOTIFICATION.name];
/// What the services and the test clock share, in the schema `testing`.
const TESTING_SCHEMA: &str = "
CREATE TABLE testing.clock (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    offset_micros bigint NOT NULL,
    step bigint NOT NULL DEFAULT 0,
    round bigint NOT NULL DEFAULT 0,
    due timestamptz
);
CREATE TABLE testing.barrier (
    service text PRIMARY KEY,
    step bigint NOT NULL,
    round bigint NOT NULL,
    pending bigint NOT NULL,
    emitted bigint NOT NULL
);";

/// Creates a role, or sets its password.
pub(super) fn role_script(
    service: &str,
    verifier: &str,
    roles: &[String],
    superuser: bool,
) -> String {
    let name = role(service);
    let verb = if roles.contains(&name) {
        "ALTER"
    } else {
        "CREATE"
    };
    let role = identifier(&name);
    let mut script = format!("{verb} ROLE {role} LOGIN PASSWORD {};", literal(verifier));
    if !superuser {
        // Only a member may make a schema that belongs to the role.
        script.push_str(&format!("GRANT {role} TO CURRENT_USER;"));
    }
    script
}

/// The privileges in one database: each role uses its own schema and no other.
pub(super) fn database_script(database: &str, schemas: &[(String, String)]) -> String {
    let exists = |schema: &str| schemas.iter().any(|(name, _)| name == schema);
    let database = identifier(database);
    let all = SERVICES
        .map(|service| identifier(&role(service)))
        .join(", ");
    let mut script = format!(
        "REVOKE ALL ON DATABASE {database} FROM PUBLIC;
         GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {all};"
    );
    if exists("public") {
        script.push_str(&format!("REVOKE ALL ON SCHEMA public FROM PUBLIC, {all};"));
    }
    for service in SERVICES {
        let (schema, owner) = (identifier(service), identifier(&role(service)));
        let others = SERVICES
            .iter()
            .filter(|other| **other != service)
            .map(|other| identifier(&role(other)))
            .collect::<Vec<_>>()
            .join(", ");
        if !exists(service) {
            script.push_str(&format!("CREATE SCHEMA {schema} AUTHORIZATION {owner};"));
        }
        script.push_str(&format!(
            "REVOKE ALL ON SCHEMA {schema} FROM PUBLIC, {others};
             ALTER ROLE {owner} IN DATABASE {database} SET search_path = {schema};"
        ));
    }
    script
}

/// The schema of the test clock, created with the database or never.
pub(super) fn testing_script() -> String {
    let all = SERVICES
        .map(|service| identifier(&role(service)))
        .join(", ");
    format!(
        "CREATE SCHEMA testing;
         {TESTING_SCHEMA}
         GRANT USAGE ON SCHEMA testing TO {all};
         GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA testing TO {all};"
    )
}

/// The role of a service.
pub(super) fn role(service: &str) -> String {
    format!("octroi_{service}")
}

/// Quotes an identifier.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a string, whatever `standard_conforming_strings` is set to.
fn literal(text: &str) -> String {
    let escaped = text.replace('\'', "''");
    if escaped.contains('\\') {
        format!(" E'{}'", escaped.replace('\\', "\\\\"))
    } else {
        format!("'{escaped}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_strings_do_not_break_out() {
        assert_eq!(identifier("a\"; DROP"), "\"a\"\"; DROP\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
    }
}
