//! Asking HTTP servers on the node.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::network::{Network, Place};

/// What was answered.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

// === impl Response ===

impl Response {
    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(": "));
        Some(Self {
            status,
            headers: headers
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect(),
            body: body.to_owned(),
        })
    }
}

/// Asks from a place.
pub fn get(network: &Network, from: Place, at: SocketAddr, path: &str) -> io::Result<Response> {
    let text = network.namespace(from).run(|| {
        let mut stream = TcpStream::connect_timeout(&at, lab::patience(Duration::from_secs(5)))?;
        stream.set_read_timeout(Some(lab::patience(Duration::from_secs(20))))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        io::Result::Ok(text)
    });
    let text = text.unwrap()?;
    Response::parse(&text).ok_or_else(|| io::Error::other(format!("no HTTP: {text:?}")))
}
