//! What runs in the lab's pods: a server that says who it is and whom it sees.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result};
use axum::{Router, extract::ConnectInfo, routing::get};

use crate::Host;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// An answer: who gave it, and which source address that one saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The name of the server.
    pub name: String,
    /// The client's address as the server saw it.
    pub source: IpAddr,
}

/// Serves HTTP and UDP on a port of every address until the process is ended.
pub async fn serve(name: String, port: u16) -> Result<()> {
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listen = || format!("listen on port {port}");
    let tcp = tokio::net::TcpListener::bind(address)
        .await
        .with_context(listen)?;
    let udp = tokio::net::UdpSocket::bind(address)
        .await
        .with_context(listen)?;
    let http_name = name.clone();
    let answer =
        move |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { say(&http_name, peer) };
    let service = Router::new()
        .route("/", get(answer))
        .into_make_service_with_connect_info::<SocketAddr>();
    tokio::select! {
        ended = axum::serve(tcp, service) => ended.context("serve HTTP"),
        ended = answer_datagrams(&udp, &name) => ended.context("serve UDP"),
    }
}

/// Asks a server once over TCP, on a new connection, from inside a host.
pub fn ask_tcp(from: &Host, to: SocketAddr) -> Result<Answer> {
    from.within(|| request_http(to))?
        .with_context(|| format!("ask {to} over TCP from {}", from.name()))
}

/// Asks a server once over UDP, from a new port, from inside a host.
pub fn ask_udp(from: &Host, to: SocketAddr) -> Result<Answer> {
    from.within(|| request_datagram(to))?
        .with_context(|| format!("ask {to} over UDP from {}", from.name()))
}

/// Asks a server many times over TCP, a new connection each, from inside a host.
pub fn ask_many(from: &Host, to: SocketAddr, times: usize) -> Result<Vec<Result<Answer>>> {
    from.within(|| (0..times).map(|_| request_http(to)).collect())
}

async fn answer_datagrams(socket: &tokio::net::UdpSocket, name: &str) -> Result<()> {
    let mut request = [0; 64];
    loop {
        let (_, peer) = socket.recv_from(&mut request).await?;
        socket.send_to(say(name, peer).as_bytes(), peer).await?;
    }
}

fn say(name: &str, peer: SocketAddr) -> String {
    format!("{name} saw {}\n", peer.ip().to_canonical())
}

pub(crate) fn request_http(to: SocketAddr) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!("GET / HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (_, body) = text
        .split_once("\r\n\r\n")
        .context("the answer is not HTTP")?;
    parse(body)
}

fn request_datagram(to: SocketAddr) -> Result<Answer> {
    let any: IpAddr = if to.is_ipv4() {
        [0; 4].into()
    } else {
        [0; 16].into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    socket.send(b"who are you?")?;
    let mut answer = [0; 128];
    let len = socket.recv(&mut answer)?;
    parse(std::str::from_utf8(&answer[..len])?)
}

fn parse(text: &str) -> Result<Answer> {
    let (name, source) = text
        .trim()
        .split_once(" saw ")
        .with_context(|| format!("unexpected answer {text:?}"))?;
    Ok(Answer {
        name: name.to_owned(),
        source: source.parse()?,
    })
}
