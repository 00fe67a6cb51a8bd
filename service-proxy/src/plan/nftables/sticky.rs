//! Chains in which clients keep their endpoint (F22).

use std::time::Duration;

use kernel::nft::{Chain, Field, Rule, Statement, Term, Verdict};

use super::{
    layout::{self, SESSIONS},
    pool::Pool,
};

/// What nft(8) can't show in the rules (at most 128 bytes).
const COMMENT: &str = "nft shows meta mark for numbers: of the Service in session-services, \
                       of its endpoint in session-slots";

/// The chain of a pool for a number of endpoints, whose clients keep theirs for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sticky {
    /// The pool.
    pub pool: Pool,
    /// Only endpoints on this node count.
    pub local: bool,
    /// How many endpoints there are.
    pub count: usize,
    /// How long a client keeps its endpoint after its last connection.
    pub timeout: Duration,
}

// === impl Sticky ===

impl Sticky {
    /// Its name.
    pub fn chain_name(&self) -> String {
        let scope = match (self.pool, self.local) {
            (Pool::Services | Pool::NodePorts, true) => "here-",
            _ => "",
        };
        let seconds = self.timeout.as_secs();
        let pool = self.pool.chain_name(self.count);
        format!("{scope}sticky-{seconds}s-{pool}")
    }

    /// Remembers an endpoint unless there is a session, which lasts for another while in any case; goes to
    /// the endpoint of the session. If that has gone, does it all once more without the session. Where that
    /// fails, as there is no room for sessions or a slot has just gone, goes to any endpoint.
    pub fn chain(&self) -> Chain {
        let rules = [
            self.remember(),
            self.go(),
            Statement::Delete {
                map: SESSIONS.to_owned(),
                key: self.client(),
            },
            self.remember(),
            self.go(),
            Statement::Verdict(Verdict::Goto(self.pool.chain_name(self.count))),
        ];
        let comments = [
            COMMENT,
            "to the endpoint of the session",
            "which has gone",
            "",
            "",
            "no room for a session, or the slot has just gone",
        ];
        let rules = rules.into_iter().zip(comments);
        let rules = rules.map(|(statement, comment)| Rule {
            statements: vec![statement],
            comment: (!comment.is_empty()).then(|| comment.to_owned()),
        });
        Chain {
            base: None,
            rules: rules.collect(),
        }
    }

    fn remember(&self) -> Statement {
        let modulus = u32::try_from(self.count).unwrap_or(u32::MAX);
        let slot = Term::Field(Field::Random { modulus });
        Statement::Update {
            map: SESSIONS.to_owned(),
            key: self.client(),
            data: mapped(
                vec![self.service(), slot],
                layout::session_slots(self.local),
            ),
            timeout: self.timeout,
        }
    }

    fn go(&self) -> Statement {
        let endpoint = mapped(self.client(), SESSIONS);
        Statement::DnatTerms {
            key: vec![Term::Field(Field::Protocol), endpoint],
            map: layout::session_endpoints(self.local).to_owned(),
        }
    }

    fn client(&self) -> Vec<Term> {
        vec![Term::Field(Field::SourceAddress), self.service()]
    }

    fn service(&self) -> Term {
        let fields = self.pool.fields().iter().copied().map(Term::Field);
        mapped(fields.collect(), self.pool.session_services())
    }
}

fn mapped(key: Vec<Term>, map: &str) -> Term {
    let map = map.to_owned();
    Term::Mapped { key, map }
}
