//! Servers that say who they are and whom they see, and how to ask them.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use kernel::netns::Namespace;
use socket2::SockRef;

/// The port that servers listen on.
pub const PORT: u16 = 8080;

/// TCP or UDP.
#[derive(Clone, Copy, Debug)]
pub enum Transport {
    /// A TCP connection.
    Tcp,
    /// A datagram and its answer.
    Udp,
}

/// What a server answers.
#[derive(Debug)]
pub struct Answer {
    /// Who it is.
    pub name: String,
    /// The address that it sees the client at.
    pub source: IpAddr,
}

/// A TCP connection that stays open.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

/// Datagrams from one port.
pub struct Datagrams {
    socket: UdpSocket,
}

// === impl Datagrams ===

impl Datagrams {
    /// Takes a port.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }
            .parse()
            .unwrap();
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(patience()))?;
        Ok(Self { socket })
    }

    /// Sends one and waits for the answer.
    pub fn ask(&self) -> io::Result<Answer> {
        self.socket.send(b"who\n")?;
        let mut buffer = [0; 64];
        let length = self.socket.recv(&mut buffer)?;
        Answer::parse(&String::from_utf8_lossy(&buffer[..length]))
    }
}

// === impl Answer ===

impl Answer {
    fn parse(text: &str) -> io::Result<Self> {
        let invalid = || io::Error::new(ErrorKind::InvalidData, format!("{text:?}"));
        let (name, source) = text.trim_end().split_once(' ').ok_or_else(invalid)?;
        Ok(Self {
            name: name.to_owned(),
            source: source.parse().map_err(|_| invalid())?,
        })
    }
}

// === impl Connection ===

impl Connection {
    /// Connects.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, patience())?;
        stream.set_read_timeout(Some(patience()))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// The client's own end.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().local_addr()
    }

    /// Sends a line and fails unless it is answered.
    pub fn assert_echoes(&mut self) {
        self.exchange().unwrap();
    }

    /// Ends it by a reset.
    pub fn reset(self) {
        let linger = Some(Duration::ZERO);
        SockRef::from(self.stream.get_ref())
            .set_linger(linger)
            .unwrap();
    }

    /// Sends a line and reads the answer.
    pub fn exchange(&mut self) -> io::Result<Answer> {
        self.stream.get_mut().write_all(b"who\n")?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Answer::parse(&line)
    }
}

/// Serves TCP and UDP in a namespace, both families, until the test program ends.
pub fn serve(namespace: &Namespace, name: &'static str) {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
    let (tcp, udp) = namespace
        .run(|| {
            (
                TcpListener::bind(any).unwrap(),
                UdpSocket::bind(any).unwrap(),
            )
        })
        .unwrap();
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || answer_lines(stream, name));
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        loop {
            let (_, source) = udp.recv_from(&mut buffer).unwrap();
            udp.send_to(line(name, source).as_bytes(), source).unwrap();
        }
    });
}

/// Longer than any answer takes; a test that waits so long fails.
fn patience() -> Duration {
    lab::patience(Duration::from_secs(5))
}

/// Asks a server of the calling thread's namespace.
pub fn ask(transport: Transport, to: SocketAddr) -> io::Result<Answer> {
    match transport {
        Transport::Tcp => Connection::open(to)?.exchange(),
        Transport::Udp => Datagrams::open(to)?.ask(),
    }
}

fn answer_lines(stream: TcpStream, name: &str) {
    let source = stream.peer_addr().unwrap();
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    while matches!(reader.read_line(&mut request), Ok(1..)) {
        // A client that is gone has ended the conversation.
        if reader
            .get_mut()
            .write_all(line(name, source).as_bytes())
            .is_err()
        {
            return;
        }
    }
}

fn line(name: &str, source: SocketAddr) -> String {
    format!("{name} {}\n", source.ip().to_canonical())
}
