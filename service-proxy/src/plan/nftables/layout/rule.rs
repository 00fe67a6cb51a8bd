//! Short words for what the chains are made of.

use kernel::nft::{
    BaseChain, Chain, ChainKind, Field, Hook, Match, Operator, Rule, Statement, Verdict,
};

use crate::plan::nftables::node_rules::Mark;

/// Goes on in a chain, and does not come back.
pub fn goto(chain: &str) -> Verdict {
    Verdict::Goto(chain.to_owned())
}

pub(super) fn base(kind: ChainKind, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain {
        base: Some(BaseChain::accepting(kind, hook, priority)),
        rules,
    }
}

pub(super) fn regular(rules: Vec<Rule>) -> Chain {
    Chain { base: None, rules }
}

pub(super) fn rule<const N: usize>(statements: [Statement; N]) -> Rule {
    Rule {
        statements: statements.into(),
        comment: None,
    }
}

pub(super) fn commented<const N: usize>(comment: &str, statements: [Statement; N]) -> Rule {
    Rule {
        comment: Some(comment.to_owned()),
        ..rule(statements)
    }
}

pub(super) fn jump(chain: &str) -> Statement {
    Statement::Verdict(Verdict::Jump(chain.to_owned()))
}

pub(super) fn matches(field: Field, operator: Operator) -> Statement {
    Statement::Match(Match { field, operator })
}

pub(super) fn is_new() -> Statement {
    has_any(Field::CtState, Field::CT_NEW)
}

pub(super) fn has_any(field: Field, bits: u32) -> Statement {
    matches(field, Operator::HasAny(bits))
}

pub(super) fn in_set<const N: usize>(fields: [Field; N], set: &str) -> Statement {
    Statement::InSet {
        fields: fields.into(),
        negated: false,
        set: set.to_owned(),
    }
}

pub(super) fn verdict_map(fields: &[Field], map: &str) -> Statement {
    Statement::VerdictMap {
        fields: fields.to_vec(),
        map: map.to_owned(),
    }
}

pub(super) fn set_mark(mark: Mark) -> Statement {
    Statement::SetMark {
        mask: mark.value(),
        bits: mark.value(),
    }
}

pub(super) fn clear_mark(mark: Mark) -> Statement {
    Statement::SetMark {
        mask: mark.value(),
        bits: 0,
    }
}
