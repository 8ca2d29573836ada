//! `WWW-Authenticate`: how a registry says where a token is to be had (RFC 9110, 11.6.1; distribution token specification).

use ureq::http::HeaderMap;
use ureq::http::header::WWW_AUTHENTICATE;

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token of a token service.
    Bearer {
        /// The service's address.
        realm: String,
        /// The name of the registry there.
        service: Option<String>,
    },
    /// Name and password.
    Basic,
}

impl Challenge {
    /// What the answer with these headers asks for; none when it asks for nothing that is known.
    pub(super) fn of(headers: &HeaderMap) -> Option<Challenge> {
        let lines = headers.get_all(WWW_AUTHENTICATE).iter();
        Challenge::choose(lines.filter_map(|line| line.to_str().ok()))
    }

    /// Reads all header lines and picks the first that asks for a token, else one that asks for a password.
    /// The scope of the text is not read: ours is always the one repository, to pull.
    fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
        let mut basic = None;
        for header in headers {
            let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                let parameters = parameters(rest);
                let get = |name: &str| {
                    parameters
                        .iter()
                        .find(|(key, _)| key.eq_ignore_ascii_case(name))
                        .map(|(_, value)| value.clone())
                };
                if let Some(realm) = get("realm") {
                    return Some(Challenge::Bearer {
                        realm,
                        service: get("service"),
                    });
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
        basic
    }
}

/// `key="value", key=value`; reading ends at the first thing that is neither.
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((key, rest)) = text.trim_start_matches([' ', ',']).split_once('=') {
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let end = rest.find([',', ' ']).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        found.push((key.trim().to_owned(), value));
        text = rest;
    }
    found
}

fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_preferred_to_a_password() {
        let bearer = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull,push""#;
        let want = Challenge::Bearer {
            realm: "https://auth.docker.io/token".to_owned(),
            service: Some("registry.docker.io".to_owned()),
        };
        assert_eq!(Challenge::choose([bearer].into_iter()), Some(want.clone()));
        assert_eq!(
            Challenge::choose([r#"Basic realm="x""#, bearer].into_iter()),
            Some(want)
        );
        assert_eq!(Challenge::choose(["basic"].into_iter()), Some(Challenge::Basic));
        assert_eq!(
            Challenge::choose([r#"bearer service=a, realm="q\"x""#].into_iter()),
            Some(Challenge::Bearer {
                realm: "q\"x".to_owned(),
                service: Some("a".to_owned())
            })
        );
    }

    #[test]
    fn anything_else_is_no_challenge() {
        for text in [
            "",
            "Bearer",
            "Bearer realm",
            "Bearer service=\"x\"",
            "Digest realm=\"x\"",
            "Bearer =\"",
            "Bearer ,,,=",
        ] {
            assert_eq!(Challenge::choose([text].into_iter()), None, "{text}");
        }
    }
}
