//! DNS for names of the mesh: which answer a query gets, without any I/O.
//!
//! Known names are answered here, with authority; whatever else is asked is forwarded as it came.

pub(crate) mod server;

use std::collections::BTreeMap;
use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use serde::{Deserialize, Deserializer};

/// Seconds that answers may be kept when the control plane does not say.
const DEFAULT_TTL: u32 = 30;

/// The largest answer over UDP to a client that announces nothing (RFC 1035, section 2.3.4).
const PLAIN_UDP: u16 = 512;

/// The names of the mesh and their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Records {
    /// Lower case, without the final dot.
    names: BTreeMap<String, Vec<IpAddr>>,
    ttl: u32,
}

/// `{"records": [{"name", "ips": []}], "ttl"}`. An address that is none is left out: one bad entry
/// must not take the names of a mesh away.
impl<'de> Deserialize<'de> for Records {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Document {
            #[serde(default)]
            records: Option<Vec<Entry>>,
            #[serde(default)]
            ttl: Option<u32>,
        }
        #[derive(Deserialize)]
        struct Entry {
            name: String,
            #[serde(default)]
            ips: Option<Vec<String>>,
        }
        let document = Document::deserialize(deserializer)?;
        let entries = document.records.unwrap_or_default().into_iter();
        let names = entries.map(|entry| {
            let addresses = entry.ips.unwrap_or_default().iter().filter_map(|ip| ip.parse().ok()).collect();
            (canonical(&entry.name), addresses)
        });
        Ok(Self { names: names.collect(), ttl: document.ttl.unwrap_or(DEFAULT_TTL) })
    }
}

/// What to do with a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Send this back.
    Reply(Vec<u8>),
    /// Ask the name server.
    Forward,
    /// Not a query: no answer.
    Drop,
}

/// Over what a query came: an answer over UDP has a limited size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// The answer to a query.
pub(crate) fn answer(records: &Records, query: &[u8], transport: Transport) -> Answer {
    let Ok(query) = Message::from_vec(query) else { return failure(query, ResponseCode::FormErr) };
    if query.metadata.message_type != MessageType::Query {
        return Answer::Drop;
    }
    let [question] = query.queries.as_slice() else { return Answer::Forward };
    if query.metadata.op_code != OpCode::Query || question.query_class() != DNSClass::IN {
        return Answer::Forward;
    }
    match records.names.get(&canonical(&question.name().to_ascii())) {
        Some(addresses) => reply(&query, question, addresses, records.ttl, transport),
        None => Answer::Forward,
    }
}

/// A SERVFAIL for a query that could not be forwarded.
pub(crate) fn server_failure(query: &[u8]) -> Answer {
    failure(query, ResponseCode::ServFail)
}

fn reply(query: &Message, question: &Query, addresses: &[IpAddr], ttl: u32, transport: Transport) -> Answer {
    let mut response = Message::response(query.metadata.id, OpCode::Query);
    response.metadata.authoritative = true;
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.add_query(question.clone());
    // For another family or another type there is nothing, which is not the same as no such name.
    for address in addresses {
        let data = match (question.query_type(), address) {
            (RecordType::A | RecordType::ANY, IpAddr::V4(ip)) => RData::A(A(*ip)),
            (RecordType::AAAA | RecordType::ANY, IpAddr::V6(ip)) => RData::AAAA(AAAA(*ip)),
            _ => continue,
        };
        response.add_answer(Record::from_rdata(question.name().clone(), ttl, data));
    }
    let limit = usize::from(query.max_payload().max(PLAIN_UDP));
    match response.to_vec() {
        Ok(bytes) if transport == Transport::Udp && bytes.len() > limit => encode(&response.truncate()),
        Ok(bytes) => Answer::Reply(bytes),
        Err(_) => encode(&Message::error_msg(query.metadata.id, OpCode::Query, ResponseCode::ServFail)),
    }
}

/// An error for a query of which at least the id can be read.
fn failure(query: &[u8], code: ResponseCode) -> Answer {
    let Some((id, rest)) = query.split_first_chunk::<2>() else { return Answer::Drop };
    // The first bit after the id tells responses apart (RFC 1035, section 4.1.1): two servers must
    // not send each other errors for ever.
    if rest.first().is_none_or(|flags| flags & 0x80 != 0) {
        return Answer::Drop;
    }
    let mut response = Message::error_msg(u16::from_be_bytes(*id), OpCode::Query, code);
    if let Ok(query) = Message::from_vec(query) {
        response.metadata.recursion_desired = query.metadata.recursion_desired;
        response.add_queries(query.queries);
    }
    encode(&response)
}

fn encode(response: &Message) -> Answer {
    response.to_vec().map_or(Answer::Drop, Answer::Reply)
}

fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
pub(crate) mod tests {
    use hickory_proto::rr::Name;

    use super::*;

    pub(crate) fn records(json: &str) -> Records {
        serde_json::from_str(json).unwrap()
    }

    pub(crate) fn query(name: &str, record_type: RecordType) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
        message.to_vec().unwrap()
    }

    fn web() -> Records {
        records(r#"{"records":[{"name":"Web.Mesh","ips":["10.0.0.1","fd00::1","10.0.0.2"]}],"ttl":9}"#)
    }

    fn message(answer: Answer) -> Message {
        match answer {
            Answer::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
            other => panic!("not a reply: {other:?}"),
        }
    }

    #[test]
    fn a_known_name_has_the_addresses_of_the_family_asked_for() {
        let got = message(answer(&web(), &query("wEB.mesh.", RecordType::A), Transport::Udp));
        assert_eq!(got.metadata.id, 7);
        assert_eq!(got.metadata.response_code, ResponseCode::NoError);
        assert!(got.metadata.authoritative && got.metadata.recursion_desired);
        let addresses: Vec<_> = got.answers.iter().map(|record| record.data.to_string()).collect();
        assert_eq!(addresses, ["10.0.0.1", "10.0.0.2"]);
        assert!(got.answers.iter().all(|record| record.ttl == 9));
        let got = message(answer(&web(), &query("web.mesh.", RecordType::AAAA), Transport::Udp));
        assert_eq!(got.answers.len(), 1);
    }

    #[test]
    fn a_known_name_without_such_records_exists_all_the_same() {
        let v4 =
            records(r#"{"records":[{"name":"a.mesh","ips":["10.0.0.1"]},{"name":"b.mesh","ips":null}]}"#);
        for (name, record_type) in
            [("a.mesh.", RecordType::AAAA), ("a.mesh.", RecordType::TXT), ("b.mesh.", RecordType::A)]
        {
            let got = message(answer(&v4, &query(name, record_type), Transport::Udp));
            assert_eq!(got.metadata.response_code, ResponseCode::NoError);
            assert!(got.answers.is_empty());
        }
    }

    #[test]
    fn other_names_are_forwarded() {
        for name in ["example.com.", "sub.web.mesh.", "mesh."] {
            assert_eq!(answer(&web(), &query(name, RecordType::A), Transport::Udp), Answer::Forward);
        }
        assert_eq!(
            answer(&Records::default(), &query("web.mesh.", RecordType::A), Transport::Udp),
            Answer::Forward
        );
    }

    #[test]
    fn an_answer_too_long_for_udp_is_cut_and_marked() {
        let ips: Vec<_> = (0..100).map(|i| format!("10.0.0.{i}")).collect();
        let many = serde_json::json!({"records": [{"name": "many.mesh", "ips": ips}]});
        let many = records(&many.to_string());
        let asked = query("many.mesh.", RecordType::A);
        let got = message(answer(&many, &asked, Transport::Udp));
        assert!(got.metadata.truncation && got.answers.is_empty());
        assert_eq!(message(answer(&many, &asked, Transport::Tcp)).answers.len(), 100);
    }

    #[test]
    fn garbage_and_responses_get_no_loop() {
        assert_eq!(answer(&web(), b"", Transport::Udp), Answer::Drop);
        assert_eq!(answer(&web(), b"\x00\x01\x80", Transport::Udp), Answer::Drop);
        let got = message(answer(&web(), b"\x00\x01\x01\x00", Transport::Udp));
        assert_eq!((got.metadata.id, got.metadata.response_code), (1, ResponseCode::FormErr));
        let reply = Message::response(3, OpCode::Query).to_vec().unwrap();
        assert_eq!(answer(&web(), &reply, Transport::Udp), Answer::Drop);
        let failed = message(server_failure(&query("x.", RecordType::A)));
        assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
        assert_eq!(failed.queries.len(), 1);
    }
}
