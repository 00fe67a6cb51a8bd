//! Lists: one consistent state, in one piece or in pages.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    failure::Failure,
    object::{Key, Object},
    query::{ListOptions, Version},
    resource::Resource,
    store::Inner,
};

/// Where the next page begins. Opaque to clients.
#[derive(Debug, Deserialize, Serialize)]
struct Token {
    /// The revision of the first page; 0 for a list that goes on at the present one.
    rv: u64,
    namespace: String,
    name: String,
}

/// The items of a list, not yet written out.
#[derive(Debug)]
pub struct Page {
    resource: &'static Resource,
    revision: u64,
    items: Vec<Arc<Object>>,
    next: String,
    remaining: Option<usize>,
}

// === impl Page ===

impl Page {
    /// Reads a page.
    ///
    /// # Errors
    /// 410 when its state is no longer known, 504 when it is in the future, 400 for a rubbish token.
    pub fn read(
        inner: &Inner,
        resource: &'static Resource,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<Self, Failure> {
        let token = match options.continue_token.as_str() {
            "" => None,
            text => Some(Token::decode(text)?),
        };
        let after = token
            .as_ref()
            .map(|token| Key::new(&token.namespace, &token.name));
        let revision = match &token {
            Some(token) if token.rv > 0 => token.rv,
            Some(_) => inner.revision(),
            None => revision_of(options.version, inner.revision())?,
        };
        let objects = inner.objects(resource, revision, namespace, after.as_ref());
        let objects = objects.map_err(|failure| match token {
            Some(token) => token_expired(token),
            None => failure,
        })?;
        let selector = &options.selector;
        let mut items = objects;
        items.retain(|object| selector.matches(&object.labels, &object.fields));
        let mut page = Self {
            resource,
            revision,
            next: String::new(),
            remaining: None,
            items,
        };
        page.cut(options);
        Ok(page)
    }

    /// Writes the list out.
    pub fn write(&self) -> Bytes {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if !self.next.is_empty() {
            metadata["continue"] = self.next.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        let size: usize = self
            .items
            .iter()
            .map(|object| object.item().len() + 1)
            .sum();
        let mut text = BytesMut::with_capacity(size + 256);
        let head = format!(
            r#"{{"kind":"{}List","apiVersion":"{}","metadata":{metadata},"items":["#,
            self.resource.kind,
            self.resource.api_version(),
        );
        text.put_slice(head.as_bytes());
        for (index, object) in self.items.iter().enumerate() {
            if index > 0 {
                text.put_u8(b',');
            }
            text.put_slice(object.item());
        }
        text.put_slice(b"]}");
        text.freeze()
    }

    /// The objects of the page.
    pub fn items(&self) -> &[Arc<Object>] {
        &self.items
    }

    fn cut(&mut self, options: &ListOptions) {
        if options.limit == 0 || self.items.len() <= options.limit {
            return;
        }
        // Of what a selector leaves out the server can't tell how much is still to come.
        self.remaining = options
            .selector
            .is_empty()
            .then_some(self.items.len() - options.limit);
        self.items.truncate(options.limit);
        if let Some(last) = self.items.last() {
            self.next = Token::new(self.revision, &last.key).encode();
        }
    }
}

// === impl Token ===

impl Token {
    fn new(revision: u64, key: &Key) -> Self {
        Self {
            rv: revision,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        }
    }

    fn encode(&self) -> String {
        let text = json!({"rv": self.rv, "namespace": self.namespace, "name": self.name});
        BASE64_URL_SAFE_NO_PAD.encode(text.to_string())
    }

    fn decode(text: &str) -> Result<Self, Failure> {
        let bad =
            |error: String| Failure::bad_request(format!("continue key is not valid: {error}"));
        let bytes = BASE64_URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|error| bad(error.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))
    }
}

/// At which revision a list is read. The store is never behind, so that the present one is new enough for all.
fn revision_of(version: Version, current: u64) -> Result<u64, Failure> {
    match version {
        Version::Exact(asked) | Version::NotOlderThan(asked) if asked > current => {
            Err(Failure::too_large(asked, current))
        }
        Version::Exact(asked) => Ok(asked),
        Version::Latest | Version::Any | Version::NotOlderThan(_) => Ok(current),
    }
}

fn token_expired(token: Token) -> Failure {
    let inconsistent = Token { rv: 0, ..token };
    Failure::expired(
        "The provided continue parameter is too old to display a consistent list result. You can \
         start a new list without the continue parameter, or use the continue token in this response \
         to retrieve the remainder of the results. Continuing with the provided token results in an \
         inconsistent list - objects that were created, modified, or deleted between the time the \
         first chunk was returned and now may show up in the list.",
    )
    .with_continue(inconsistent.encode())
}
