//! Connections that are kept open, and those who make a new one each time.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use lab::{Host, wait_until};

/// The port of [`serve`].
pub const ECHO_PORT: u16 = 80;

/// How long an answer may take: the kernel sends again what it has lost, so what never comes is lost for good.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);

/// How often something was said and answered.
#[derive(Clone, Default)]
struct Progress {
    ended: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
}

/// Somebody who says something and waits for the answer, all the time.
pub struct Talk {
    name: &'static str,
    progress: Progress,
    thread: JoinHandle<io::Result<()>>,
}

/// Answers on a host what is said, until the process ends.
pub fn serve(host: &Host) {
    let listener = host
        .within(|| TcpListener::bind(("0.0.0.0", ECHO_PORT)))
        .unwrap()
        .unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            thread::spawn(move || echo(connection?));
        }
    });
}

fn echo(mut connection: TcpStream) -> io::Result<()> {
    let mut said = [0; 8];
    loop {
        connection.read_exact(&mut said)?;
        connection.write_all(&said)?;
    }
}

fn connect(from: &Host, to: SocketAddr) -> io::Result<TcpStream> {
    let connect = || TcpStream::connect_timeout(&to, PATIENCE);
    let stream = from.within(connect).map_err(io::Error::other)??;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn say(stream: &mut TcpStream, number: u64) -> io::Result<()> {
    stream.write_all(&number.to_be_bytes())?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)?;
    assert_eq!(u64::from_be_bytes(answer), number);
    Ok(())
}

// === impl Progress ===

impl Progress {
    /// Calls `once` with consecutive numbers until the end or an error.
    fn keep_on(&self, mut once: impl FnMut(u64) -> io::Result<()>) -> io::Result<()> {
        while !self.ended.load(Ordering::Relaxed) {
            let number = self.answers.load(Ordering::Relaxed);
            once(number).map_err(|error| {
                eprintln!("lost after {number} answers: {error}");
                error
            })?;
            self.answers.fetch_add(1, Ordering::Relaxed);
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

// === impl Talk ===

impl Talk {
    /// By one open connection.
    pub fn by_one_connection(name: &'static str, from: &Host, to: SocketAddr) -> Self {
        let mut stream = connect(from, to).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self::start(name, move |number| say(&mut stream, number))
    }

    /// By a new connection each time.
    pub fn by_new_connections(name: &'static str, from: &Host, to: SocketAddr) -> Self {
        let from = Host::open(from.name()).unwrap();
        Self::start(name, move |number| say(&mut connect(&from, to)?, number))
    }

    fn start(name: &'static str, once: impl FnMut(u64) -> io::Result<()> + Send + 'static) -> Self {
        let progress = Progress::default();
        let shared = progress.clone();
        let thread = thread::spawn(move || shared.keep_on(once));
        Self {
            name,
            progress,
            thread,
        }
    }

    /// Waits for answers to what is said from now on; one may be on its way.
    pub fn goes_on(&self) {
        let Self {
            name,
            progress,
            thread,
        } = self;
        let now = progress.answers.load(Ordering::Relaxed);
        wait_until(&format!("an answer: {name}"), || {
            let lost = thread.is_finished();
            Ok(lost || progress.answers.load(Ordering::Relaxed) >= now + 3)
        })
        .unwrap();
        assert!(!thread.is_finished(), "{name}: lost after {now} answers");
    }

    /// Ends it; nothing may have been lost.
    pub fn end(self) {
        let name = self.name;
        self.progress.ended.store(true, Ordering::Relaxed);
        let ended = self.thread.join().unwrap();
        let answers = self.progress.answers.load(Ordering::Relaxed);
        println!("{name}: {answers} answers");
        ended.unwrap_or_else(|error| panic!("{name}: lost after {answers} answers: {error}"));
    }
}
