//! Which driver asks, where drivers differ in what they understand.

use tonic::metadata::MetadataMap;

/// How the driver in Java names itself from version 19 on, and how its library does.
pub(crate) const JDBC_DRIVER: &str = "JDBC Flight SQL Driver";
pub(crate) const JAVA_LIBRARY: &str = "grpc-java";

/// What a client calls itself.
pub(crate) fn user_agent(headers: &MetadataMap) -> &str {
    headers.get("user-agent").and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A client by its `user-agent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Agent {
    /// A driver in Java, which has no unsigned integers: the JDBC driver shows them as signed ones of the same
    /// width. Before version 19 it does not say its name.
    Java,
    /// Any other.
    #[default]
    Other,
}

impl Agent {
    pub(super) fn of_headers(headers: &MetadataMap) -> Agent {
        if [JDBC_DRIVER, JAVA_LIBRARY].iter().any(|java| user_agent(headers).starts_with(java)) {
            Agent::Java
        } else {
            Agent::Other
        }
    }

    /// Whether it is to be given signed integers alone.
    pub(crate) fn wants_signed_integers(self) -> bool {
        self == Agent::Java
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_known_by_how_their_names_begin() {
        for (name, agent) in [
            ("ADBC Flight SQL Driver v1.13.0 grpc-go/1.79.1", Agent::Other),
            ("JDBC Flight SQL Driver 19.0.0 grpc-java-netty/1.79.0", Agent::Java),
            ("grpc-java-netty/1.73.0", Agent::Java),
            ("grpc-c++/1.71.0 grpc-java", Agent::Other),
            ("", Agent::Other),
        ] {
            let mut headers = MetadataMap::new();
            if let Ok(value) = name.parse() {
                headers.insert("user-agent", value);
            }
            assert_eq!(Agent::of_headers(&headers), agent, "{name}");
        }
        assert_eq!(Agent::of_headers(&MetadataMap::new()), Agent::Other);
    }
}
