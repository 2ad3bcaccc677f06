//! Approvals in the embedded store: what is asked, each word, each stage.
//!
//! [`step`] is where an approval and the grant it goes on move together: in one transaction or not at all. Header fields
//! lie as lines of `name: value`, the way they were sent.

use super::super::approval::{ApprovalRow, Ending, Move, Outcome};
use super::super::embedded::Refusal;
use super::{all, id, name, notices, text, time};
use crate::policy::approval::{
    Asked, AskedGrant, Facts, Field, HeldCall, RequestDigest, Stage, Vote, Word,
};
use crate::policy::decision::GrantUse;
use crate::policy::id::{ApprovalId, GrantId};
use crate::policy::model::PolicyHash;
use crate::policy::name::{
    AgentName, ChainName, PrincipalName, ProjectName, RouteId, ScopeName, ToolName,
};
use crate::policy::resource::Resource;
use crate::policy::time::{Tick, Timestamp};
use crate::store::outbox::NoticeRow;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

type Done = Result<usize, rusqlite::Error>;

pub(super) fn hold(transaction: &Transaction<'_>, row: &ApprovalRow) -> Done {
    let facts = &row.facts;
    let (call, wish) = match &facts.asked {
        Asked::Call(call) => (Some(&**call), None),
        Asked::Grant(wish) => (None, Some(wish)),
    };
    let made = transaction
        .prepare(
            "INSERT INTO approvals (id, session, project, policy, chain, quorum, agent, run, minted_by, intent, client, \
             request, scope, resource, digest, created_at, expires_at, denied_for, goes_on, uses, ttl, why, stage, since) \
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, \
             ?23, ?24 WHERE EXISTS (SELECT 1 FROM sessions WHERE id = ?2)",
        )?
        .execute(params![
            facts.id.to_string(),
            facts.session.to_string(),
            facts.project.as_str(),
            facts.policy.to_string(),
            facts.chain.as_str(),
            facts.quorum,
            facts.agent.as_str(),
            facts.run,
            facts.minted_by.as_str(),
            facts.intent.as_deref(),
            facts.client.to_string(),
            facts.request.to_string(),
            facts.scope.as_str(),
            facts.resource.as_ref().map(|one| one.as_str().to_owned()),
            facts.digest.to_string(),
            facts.created_at.micros(),
            facts.expires_at.micros(),
            micros(facts.denied_for),
            call.map(|call| goes_on(call.grant)),
            wish.map(|wish| wish.uses),
            wish.map(|wish| micros(wish.ttl)),
            wish.map(|wish| &wish.why),
            row.stage.as_str(),
            row.since.micros(),
        ])?;
    if made == 0 {
        return Ok(0);
    }
    if let Some(call) = call {
        request(transaction, facts.id, call)?;
    }
    notices::insert(transaction, &NoticeRow::requested(facts))?;
    Ok(made)
}

fn request(transaction: &Transaction<'_>, approval: ApprovalId, call: &HeldCall) -> Done {
    transaction
        .prepare(
            "INSERT INTO requests (approval, tool, route, upstream, method, authority, target, fields, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            approval.to_string(),
            call.tool.as_str(),
            call.route.as_str(),
            call.upstream.as_slice(),
            call.method,
            call.authority,
            call.target,
            lines_of(&call.fields),
            &call.body[..],
        ])
}

pub(super) fn vote(transaction: &Transaction<'_>, approval: ApprovalId, vote: &Vote) -> Done {
    // One that was said before and did not count is said anew: it takes its place behind those said meanwhile.
    transaction
        .prepare(
            "DELETE FROM votes WHERE approval = ?1 AND principal = ?2 AND word = ?3 \
             AND EXISTS (SELECT 1 FROM approvals WHERE id = ?1 AND stage = 'pending')",
        )?
        .execute(params![
            approval.to_string(),
            vote.principal.as_str(),
            vote.word.as_str(),
        ])?;
    transaction
        .prepare(
            "INSERT INTO votes (approval, principal, word, note, at) SELECT ?1, ?2, ?3, ?4, ?5 \
             WHERE EXISTS (SELECT 1 FROM approvals WHERE id = ?1 AND stage = 'pending') \
             ON CONFLICT (approval, principal) DO NOTHING",
        )?
        .execute(params![
            approval.to_string(),
            vote.principal.as_str(),
            vote.word.as_str(),
            vote.note,
            vote.at.micros(),
        ])
}

pub(super) fn unvote(transaction: &Transaction<'_>, approval: ApprovalId, vote: &Vote) -> Done {
    transaction
        .prepare("DELETE FROM votes WHERE approval = ?1 AND principal = ?2 AND at = ?3")?
        .execute(params![
            approval.to_string(),
            vote.principal.as_str(),
            vote.at.micros()
        ])
}

/// Moves an approval and the use of the grant it goes on.
pub(super) fn step(transaction: &Transaction<'_>, step: &Move) -> Done {
    let approval = step.approval.to_string();
    let found: Option<(String, Option<String>)> = transaction
        .prepare("SELECT stage, goes_on FROM approvals WHERE id = ?1")?
        .query_row([&approval], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let stage = |(stage, goes_on): (String, _)| Some((Stage::parse(&stage)?, goes_on));
    let Some((before, goes_on)) = found.and_then(stage) else {
        return Ok(0);
    };
    if !step.from.contains(&before) {
        return Ok(0);
    }
    if let Some(word) = &step.vote
        && before != step.to
    {
        // Whatever its approval stands at: it was in force before it came here.
        vote_anyhow(transaction, step.approval, word)?;
    }
    match (has_taken(before), has_taken(step.to)) {
        (Some(false), Some(true)) => {
            let taken = transaction
                .prepare(
                    "UPDATE grants SET uses_left = uses_left - 1 WHERE id = ?1 AND uses_left > 0",
                )?
                .execute([&goes_on])?;
            let stored = goes_on.as_deref().is_some_and(|on| on != ON_USE);
            if stored && taken == 0 && step.to == Stage::Executing {
                return Ok(0);
            }
        }
        (Some(true), Some(false)) => {
            transaction
                .prepare("UPDATE grants SET uses_left = uses_left + 1 WHERE id = ?1 AND uses_left < uses")?
                .execute([&goes_on])?;
        }
        _ => {}
    }
    if step.to == Stage::Pending {
        // Its agreement is taken back before anybody saw it.
        let told = format!("{approval}.{}", Stage::Approved.as_str());
        transaction
            .prepare("DELETE FROM notices WHERE id = ?1")?
            .execute([&told])?;
    }
    let moved = set(transaction, &approval, step)?;
    if let Some(Outcome { fields, body, .. }) = &step.outcome
        && (body.is_some() || !fields.is_empty())
    {
        transaction
            .prepare("INSERT OR REPLACE INTO answers (approval, fields, body) VALUES (?1, ?2, ?3)")?
            .execute(params![approval, lines_of(fields), body.as_deref()])?;
    }
    // Told in the step that brought it there: one that is repeated tells nobody again.
    if let Some(notice) = step.notice.as_ref().filter(|_| before != step.to) {
        notices::insert(transaction, notice)?;
    }
    Ok(moved)
}

fn set(transaction: &Transaction<'_>, approval: &str, step: &Move) -> Done {
    let ending = step.ending.as_ref();
    let outcome = step.outcome.as_ref();
    transaction
        .prepare(
            "UPDATE approvals SET stage = ?2, since = ?3, decided_at = ?4, decided_by = ?5, note = ?6, status = ?7, \
             given = ?8 WHERE id = ?1",
        )?
        .execute(params![
            approval,
            step.to.as_str(),
            step.at.micros(),
            ending.map(|ending| ending.at.micros()),
            ending.and_then(|ending| ending.by.as_ref().map(PrincipalName::as_str)),
            ending.and_then(|ending| ending.note.as_deref()),
            outcome.and_then(|outcome| outcome.status),
            outcome.and_then(|outcome| outcome.grant.map(|grant| grant.to_string())),
        ])
}

fn vote_anyhow(transaction: &Transaction<'_>, approval: ApprovalId, vote: &Vote) -> Done {
    transaction
        .prepare("INSERT OR REPLACE INTO votes (approval, principal, word, note, at) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            approval.to_string(),
            vote.principal.as_str(),
            vote.word.as_str(),
            vote.note,
            vote.at.micros(),
        ])
}

/// Whether an approval at this stage holds the use of its grant; `None`: whatever it did before.
fn has_taken(stage: Stage) -> Option<bool> {
    match stage {
        Stage::Pending | Stage::Approved => Some(false),
        Stage::Executing | Stage::Executed | Stage::Unknown => Some(true),
        Stage::Denied | Stage::Expired | Stage::Withdrawn => None,
    }
}

pub(super) fn deliver(transaction: &Transaction<'_>, approval: ApprovalId) -> Done {
    let approval = approval.to_string();
    transaction
        .prepare("DELETE FROM answers WHERE approval = ?1")?
        .execute([&approval])?;
    transaction
        .prepare("UPDATE approvals SET delivered = 1 WHERE id = ?1")?
        .execute([&approval])
}

/// All of them, in the order they were asked.
pub(super) fn load(connection: &Connection) -> Result<Vec<ApprovalRow>, Refusal> {
    let mut votes: HashMap<ApprovalId, Vec<Vote>> = HashMap::new();
    for (approval, vote) in all(connection, "votes", "ORDER BY rowid", read_vote)? {
        votes.entry(approval).or_default().push(vote);
    }
    let calls = all(connection, "requests", "", read_call)?;
    let mut calls: HashMap<ApprovalId, HeldCall> = calls.into_iter().collect();
    let answers = all(connection, "answers", "", read_answer)?;
    let mut answers: HashMap<ApprovalId, Answer> = answers.into_iter().collect();
    all(connection, "approvals", "ORDER BY rowid", |row| {
        let approval: ApprovalId = id(row, "id")?;
        let asked = match row.get::<_, Option<String>>("goes_on").map_err(text)? {
            Some(goes_on) => {
                let call = calls.remove(&approval).ok_or("its request is missing")?;
                let grant = parse_goes_on(&goes_on)?;
                Asked::Call(Box::new(HeldCall { grant, ..call }))
            }
            None => Asked::Grant(AskedGrant {
                uses: row.get("uses").map_err(text)?,
                ttl: span(row, "ttl")?,
                why: row.get::<_, String>("why").map_err(text)?.into(),
            }),
        };
        let votes = votes.remove(&approval).unwrap_or_default();
        read_approval(row, asked, votes, answers.remove(&approval))
    })
}

type Answer = (Vec<Field>, Option<Arc<[u8]>>);

fn read_approval(
    row: &Row<'_>,
    asked: Asked,
    votes: Vec<Vote>,
    answer: Option<Answer>,
) -> Result<ApprovalRow, String> {
    let stage: String = row.get("stage").map_err(text)?;
    let stage = Stage::parse(&stage).ok_or_else(|| format!("stage: {stage}"))?;
    let by: Option<String> = row.get("decided_by").map_err(text)?;
    let at: Option<i64> = row.get("decided_at").map_err(text)?;
    let note: Option<String> = row.get("note").map_err(text)?;
    let by = by.as_deref().map(PrincipalName::parse);
    let by = by.transpose().map_err(text)?;
    let given: Option<String> = row.get("given").map_err(text)?;
    let given = given.as_deref().map(str::parse).transpose();
    let given: Option<GrantId> = given.map_err(text)?;
    let status: Option<u16> = row.get("status").map_err(text)?;
    let (fields, body) = answer.unwrap_or_default();
    Ok(ApprovalRow {
        facts: read_facts(row, asked)?,
        stage,
        since: time(row, "since")?,
        votes,
        ending: at.map(|at| Ending {
            at: Timestamp::from_micros(at),
            by,
            note: note.map(Into::into),
        }),
        outcome: (stage == Stage::Executed).then_some(Outcome {
            status,
            fields,
            body,
            grant: given,
        }),
        delivered: row.get("delivered").map_err(text)?,
    })
}

fn read_facts(row: &Row<'_>, asked: Asked) -> Result<Facts, String> {
    let hex = |column: &str| {
        let value: String = row.get(column).map_err(text)?;
        RequestDigest::parse(&value).ok_or_else(|| format!("{column}: not a digest"))
    };
    let client: String = row.get("client").map_err(text)?;
    let resource: Option<String> = row.get("resource").map_err(text)?;
    let resource = resource
        .as_deref()
        .map(Resource::parse_recorded)
        .transpose();
    let words = |column: &str| row.get::<_, Option<String>>(column).map_err(text);
    Ok(Facts {
        id: id(row, "id")?,
        project: name(row, "project", ProjectName::parse)?,
        policy: PolicyHash(hex("policy")?.0),
        chain: name(row, "chain", ChainName::parse)?,
        agent: name(row, "agent", AgentName::parse)?,
        session: id(row, "session")?,
        run: words("run")?.map(Into::into),
        minted_by: name(row, "minted_by", PrincipalName::parse)?,
        intent: words("intent")?.map(Into::into),
        client: client.parse().map_err(text)?,
        request: id(row, "request")?,
        scope: name(row, "scope", ScopeName::parse)?,
        // Without it another thing would be agreed to than was asked.
        resource: resource.map_err(|error| format!("resource: {error}"))?,
        asked,
        digest: hex("digest")?,
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
        ends: Tick::from_nanos(0),
        denied_for: span(row, "denied_for")?,
        quorum: row.get("quorum").map_err(text)?,
    })
}

fn read_vote(row: &Row<'_>) -> Result<(ApprovalId, Vote), String> {
    let word: String = row.get("word").map_err(text)?;
    let word = [Word::Approve, Word::Deny]
        .into_iter()
        .find(|known| known.as_str() == word)
        .ok_or_else(|| format!("word: {word}"))?;
    let vote = Vote {
        principal: name(row, "principal", PrincipalName::parse)?,
        word,
        note: row
            .get::<_, Option<String>>("note")
            .map_err(text)?
            .map(Into::into),
        at: time(row, "at")?,
    };
    Ok((id(row, "approval")?, vote))
}

fn read_call(row: &Row<'_>) -> Result<(ApprovalId, HeldCall), String> {
    let words = |column: &str| -> Result<Box<str>, String> {
        Ok(row.get::<_, String>(column).map_err(text)?.into())
    };
    let call = HeldCall {
        tool: name(row, "tool", ToolName::parse)?,
        route: name(row, "route", RouteId::parse)?,
        upstream: row.get("upstream").map_err(text)?,
        method: words("method")?,
        authority: words("authority")?,
        target: words("target")?,
        fields: fields_of(&row.get::<_, Vec<u8>>("fields").map_err(text)?)?,
        body: row.get::<_, Vec<u8>>("body").map_err(text)?.into(),
        grant: GrantUse::OnUse,
    };
    Ok((id(row, "approval")?, call))
}

fn read_answer(row: &Row<'_>) -> Result<(ApprovalId, Answer), String> {
    let fields = fields_of(&row.get::<_, Vec<u8>>("fields").map_err(text)?)?;
    let body: Option<Vec<u8>> = row.get("body").map_err(text)?;
    Ok((id(row, "approval")?, (fields, body.map(Into::into))))
}

fn goes_on(grant: GrantUse) -> String {
    match grant {
        GrantUse::OnUse => ON_USE.to_owned(),
        GrantUse::Stored(grant) => grant.to_string(),
    }
}

fn parse_goes_on(stored: &str) -> Result<GrantUse, String> {
    if stored == ON_USE {
        return Ok(GrantUse::OnUse);
    }
    let grant = stored.parse().map(GrantUse::Stored);
    grant.map_err(|error| format!("goes_on: {error}"))
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

fn span(row: &Row<'_>, column: &str) -> Result<Duration, String> {
    let micros: i64 = row.get(column).map_err(text)?;
    let micros = u64::try_from(micros).map_err(|error| format!("{column}: {error}"))?;
    Ok(Duration::from_micros(micros))
}

/// No name holds a colon, and no value the end of a line.
fn lines_of(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for Field { name, value } in fields {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out
}

fn fields_of(lines: &[u8]) -> Result<Vec<Field>, String> {
    let whole = lines.strip_suffix(b"\n").unwrap_or(lines);
    let lines = whole.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let colon = line.windows(2).position(|pair| pair == b": ");
            let colon = colon.ok_or("fields: a line without a name")?;
            let name = std::str::from_utf8(&line[..colon]).map_err(text)?;
            Ok(Field {
                name: name.into(),
                value: line[colon + 2..].into(),
            })
        })
        .collect()
}

const ON_USE: &str = "on_use";
