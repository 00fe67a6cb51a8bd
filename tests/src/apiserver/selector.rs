//! Label selectors and field selectors.

use std::collections::BTreeMap;

use super::{failure::Failure, resource::Resource};

/// The labels, or the selectable fields, of an object.
pub type Pairs = BTreeMap<String, String>;

/// What a watch or a list asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

// === impl Selector ===

impl Selector {
    /// Parses the parameters `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// 400 as the real server: a selector that can't be parsed, a field that the kind does not offer.
    pub fn parse(resource: &Resource, labels: &str, fields: &str) -> Result<Self, Failure> {
        let fields = parse_fields(fields)?;
        for Requirement { key, .. } in &fields {
            let general = ["metadata.name", "metadata.namespace"].contains(&key.as_str());
            if !general && !resource.fields.contains(&key.as_str()) {
                return Err(Failure::bad_request(format!(
                    "field label not supported: {key}"
                )));
            }
        }
        Ok(Self {
            labels: parse_labels(labels)?,
            fields,
        })
    }

    /// Whether it asks for everything.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object with these labels and fields is asked for.
    pub fn matches(&self, labels: &Pairs, fields: &Pairs) -> bool {
        self.labels.iter().all(|asked| asked.holds(labels.get(&asked.key)))
            // A field that is not set has the empty value.
            && self.fields.iter().all(|asked| {
                let empty = String::new();
                asked.holds(Some(fields.get(&asked.key).unwrap_or(&empty)))
            })
    }
}

// === impl Requirement ===

impl Requirement {
    fn holds(&self, value: Option<&String>) -> bool {
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            // As in Kubernetes: an object without the label is not in the set either.
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
        }
    }
}

fn parse_fields(text: &str) -> Result<Vec<Requirement>, Failure> {
    split_outside_parentheses(text)
        .into_iter()
        .map(|part| {
            parse_equality(part).ok_or_else(|| {
                Failure::bad_request(format!(
                    "invalid field selector {part:?}: can't understand it"
                ))
            })
        })
        .collect()
}

fn parse_labels(text: &str) -> Result<Vec<Requirement>, Failure> {
    split_outside_parentheses(text)
        .into_iter()
        .map(|part| {
            let parsed = parse_set(part)
                .or_else(|| parse_equality(part))
                .or_else(|| parse_existence(part));
            parsed.ok_or_else(|| {
                Failure::bad_request(format!(
                    "unable to parse requirement: {part:?} in label selector {text:?}"
                ))
            })
        })
        .collect()
}

/// `key=value`, `key==value`, `key!=value`.
fn parse_equality(part: &str) -> Option<Requirement> {
    let (key, value, equal) = if let Some((key, value)) = part.split_once("!=") {
        (key, value, false)
    } else if let Some((key, value)) = part.split_once("==") {
        (key, value, true)
    } else {
        let (key, value) = part.split_once('=')?;
        (key, value, true)
    };
    let value = value.trim();
    if value.contains(['=', '!', '(', ')']) {
        return None;
    }
    let values = vec![value.to_owned()];
    let test = if equal {
        Test::In(values)
    } else {
        Test::NotIn(values)
    };
    requirement(key, test)
}

/// `key in (a,b)`, `key notin (a,b)`.
fn parse_set(part: &str) -> Option<Requirement> {
    let (head, rest) = part.split_once('(')?;
    let values: Vec<_> = rest
        .strip_suffix(')')?
        .split(',')
        .map(|value| value.trim().to_owned())
        .collect();
    let mut words = head.split_whitespace();
    let (key, operator) = (words.next()?, words.next()?);
    match (operator, words.next()) {
        ("in", None) => requirement(key, Test::In(values)),
        ("notin", None) => requirement(key, Test::NotIn(values)),
        _ => None,
    }
}

/// `key`, `!key`.
fn parse_existence(part: &str) -> Option<Requirement> {
    match part.strip_prefix('!') {
        Some(key) => requirement(key, Test::Absent),
        None => requirement(part, Test::Exists),
    }
}

fn requirement(key: &str, test: Test) -> Option<Requirement> {
    let key = key.trim();
    let is_key = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.', '/'].contains(&c);
    (!key.is_empty() && key.chars().all(is_key)).then(|| Requirement {
        key: key.to_owned(),
        test,
    })
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Pairs {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn services() -> &'static Resource {
        Resource::by_plural("", "v1", "services").unwrap()
    }

    #[test]
    fn labels() {
        let web = pairs(&[("app", "web"), ("tier", "front")]);
        for (selector, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app=db", false),
            ("app!=db", true),
            ("app!=web", false),
            ("zone!=a", true),
            ("app in (db, web)", true),
            ("app in (db)", false),
            ("app notin (db,cache),tier", true),
            ("zone notin (a)", true),
            ("zone in (a)", false),
            ("zone", false),
            ("!zone", true),
            ("!app", false),
            ("app=web,tier=front,!zone", true),
            ("app=web,tier=back", false),
            ("!service.kubernetes.io/service-proxy-name", true),
        ] {
            let parsed = Selector::parse(services(), selector, "").unwrap();
            assert_eq!(parsed.matches(&web, &Pairs::new()), expected, "{selector}");
        }
    }

    #[test]
    fn fields() {
        let fields = pairs(&[("metadata.name", "a"), ("spec.clusterIP", "None")]);
        for (selector, expected) in [
            ("metadata.name=a", true),
            ("metadata.name=b", false),
            ("spec.clusterIP!=None", false),
            ("metadata.namespace!=x", true),
            ("spec.type=", true),
        ] {
            let parsed = Selector::parse(services(), "", selector).unwrap();
            assert_eq!(
                parsed.matches(&Pairs::new(), &fields),
                expected,
                "{selector}"
            );
        }
    }

    #[test]
    fn refused() {
        for (labels, fields) in [
            ("a b", ""),
            ("a in b", ""),
            ("a in (b", ""),
            ("=b", ""),
            ("a=b=c", ""),
            ("", "spec.nodeName=x"),
            ("", "metadata.name"),
        ] {
            let failure = Selector::parse(services(), labels, fields).unwrap_err();
            assert_eq!(failure.code, 400, "{labels} {fields}");
        }
    }
}
