//! Origins, compared as browsers write them: scheme, host, and the port where it is not the scheme's own.

use std::str::FromStr;

/// An origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// As browsers write it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is reached by TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// The origin of a URL.
    ///
    /// # Errors
    /// When it has none.
    pub fn of_url(url: &str) -> Result<Self, String> {
        let after = url.find("://").map_or(0, |at| at + 3);
        let end = url.get(after..).and_then(|rest| rest.find('/'));
        url.get(..end.map_or(url.len(), |end| after + end))
            .unwrap_or(url)
            .parse()
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not an origin such as https://fleet.example.org: no path, and no `*`"
            )
        };
        let lower = text.to_ascii_lowercase();
        let (scheme, authority) = lower.split_once("://").ok_or_else(wrong)?;
        let own_port = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return Err(wrong()),
        };
        let authority = authority.strip_suffix(own_port).unwrap_or(authority);
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if authority.is_empty() || !authority.chars().all(plain) {
            return Err(wrong());
        }
        Ok(Self(format!("{scheme}://{authority}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        for (text, expected) in [
            ("https://Fleet.Example.org", "https://fleet.example.org"),
            ("https://fleet.example.org:443", "https://fleet.example.org"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(text.parse::<Origin>().map(|o| o.0).as_deref(), Ok(expected));
        }
        let of = |url| Origin::of_url(url).map(|origin| origin.0);
        assert_eq!(of("https://a:8443/b/c"), Ok("https://a:8443".to_owned()));
        assert_eq!(of("http://a"), Ok("http://a".to_owned()));
    }
}
