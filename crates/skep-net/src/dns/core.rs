//! From a query and the names in view to an answer. Pure.

use crate::world::NetworkNames;
use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use std::net::Ipv4Addr;

/// Seconds that answers may be kept; Docker's value.
const TTL: u32 = 600;
/// Bytes of a UDP answer to a client that does not say how much it takes (RFC 1035).
const PLAIN_UDP: u16 = 512;
/// Bytes we take over UDP, as told to clients.
const OWN_UDP: u16 = 4096;

/// What to do with a query.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Send this.
    Answer(Box<Message>),
    /// The name is not ours: ask the outside.
    Forward,
}

/// How an answer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// Decides. `networks` are those of the asking sandbox, in the order of its
/// interfaces; the first that knows a name answers. `shuffle` puts addresses into an
/// order by chance, so that clients which take the first spread over all.
pub fn decide(
    query: &Message,
    networks: &[&NetworkNames],
    shuffle: &mut dyn FnMut(&mut [Ipv4Addr]),
) -> Verdict {
    if query.metadata.op_code != OpCode::Query || query.queries.len() != 1 {
        return Verdict::Answer(Box::new(failure(query, ResponseCode::NotImp)));
    }
    let Some(question) = query.queries.first() else { return Verdict::Forward };
    if !matches!(question.query_class(), DNSClass::IN | DNSClass::ANY) {
        return Verdict::Forward;
    }
    let name = question.name().to_ascii().to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    if let Some(address) = reverse_address(name) {
        let found = networks.iter().find_map(|n| Some((n, n.reverse.get(&address)?)));
        let Some((network, host)) = found else { return Verdict::Forward };
        let mut answer = reply(query, question);
        if matches!(question.query_type(), RecordType::PTR | RecordType::ANY)
            && let Ok(target) = Name::from_ascii(format!("{host}.{}.", network.network))
        {
            let data = RData::PTR(PTR(target));
            answer.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
        }
        return Verdict::Answer(Box::new(answer));
    }
    let Some(mut addresses) = look_up(name, networks) else { return Verdict::Forward };
    let mut answer = reply(query, question);
    if matches!(question.query_type(), RecordType::A | RecordType::ANY) {
        shuffle(&mut addresses);
        for address in addresses {
            answer.add_answer(Record::from_rdata(
                question.name().clone(),
                TTL,
                RData::A(A(address)),
            ));
        }
    }
    Verdict::Answer(Box::new(answer))
}

/// The addresses of a name, empty when it is known and has none, `None` when it is
/// not known. `name.network` means that network only; network names may have dots,
/// so every split is tried, from the right.
pub fn look_up(name: &str, networks: &[&NetworkNames]) -> Option<Vec<Ipv4Addr>> {
    let in_network = |network: &NetworkNames, name: &str| {
        network.addresses.get(name).map(|found| found.iter().copied().collect())
    };
    if let Some(found) = networks.iter().find_map(|n| in_network(n, name)) {
        return Some(found);
    }
    name.rmatch_indices('.').find_map(|(at, _)| {
        let (host, network) = (name.get(..at)?, name.get(at + 1..)?);
        networks.iter().filter(|n| n.network == network).find_map(|n| in_network(n, host))
    })
}

/// `4.3.2.1.in-addr.arpa` to 1.2.3.4.
fn reverse_address(name: &str) -> Option<Ipv4Addr> {
    let digits = name.strip_suffix(".in-addr.arpa")?;
    let mut parts = digits.split('.').map(str::parse::<u8>);
    let mut octets = [0; 4];
    for octet in octets.iter_mut().rev() {
        *octet = parts.next()?.ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

fn reply(query: &Message, question: &Query) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.add_query(question.clone());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(OWN_UDP);
        reply.set_edns(edns);
    }
    reply
}

/// An answer that only says what went wrong.
pub fn failure(query: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    for question in &query.queries {
        reply.add_query(question.clone());
    }
    reply
}

/// Bytes to send. An answer too large for the client's UDP loses its records and
/// says so, and the client comes again over TCP.
pub fn encode(query: &Message, answer: &Message, transport: Transport) -> Option<Vec<u8>> {
    let bytes = answer.to_vec().ok()?;
    let limit = query.edns.as_ref().map_or(PLAIN_UDP, |e| e.max_payload().max(PLAIN_UDP));
    if transport == Transport::Tcp || bytes.len() <= usize::from(limit) {
        return Some(bytes);
    }
    answer.truncate().to_vec().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(
        name: &str,
        names: &[(&str, &[[u8; 4]])],
        reverse: &[([u8; 4], &str)],
    ) -> NetworkNames {
        NetworkNames {
            network: name.to_owned(),
            addresses: names
                .iter()
                .map(|(n, a)| ((*n).to_owned(), a.iter().map(|a| Ipv4Addr::from(*a)).collect()))
                .collect(),
            reverse: reverse.iter().map(|(a, n)| (Ipv4Addr::from(*a), (*n).to_owned())).collect(),
        }
    }

    fn ask(
        name: &str,
        kind: RecordType,
        networks: &[&NetworkNames],
    ) -> Option<(ResponseCode, Vec<String>)> {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        match decide(&query, networks, &mut |_| {}) {
            Verdict::Forward => None,
            Verdict::Answer(answer) => Some((
                answer.metadata.response_code,
                answer.answers.iter().map(|r| r.data.to_string()).collect(),
            )),
        }
    }

    #[test]
    fn table_of_answers() {
        let web = network(
            "web",
            &[
                ("api", &[[10, 0, 1, 2]]),
                ("tasks.api", &[[10, 0, 1, 3], [10, 0, 1, 4]]),
                ("drained", &[]),
                ("api.1.abc", &[[10, 0, 1, 3]]),
            ],
            &[([10, 0, 1, 3], "api.1.abc")],
        );
        let dotted = network("my.net", &[("api", &[[10, 0, 2, 2]])], &[]);
        let all = [&web, &dotted];
        let ok = |v: &[&str]| {
            Some((ResponseCode::NoError, v.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()))
        };
        let cases = [
            ("api.", RecordType::A, ok(&["10.0.1.2"])),
            ("API", RecordType::A, ok(&["10.0.1.2"])),
            ("api", RecordType::AAAA, ok(&[])),
            ("api", RecordType::MX, ok(&[])),
            ("tasks.api", RecordType::A, ok(&["10.0.1.3", "10.0.1.4"])),
            ("tasks.api.web", RecordType::A, ok(&["10.0.1.3", "10.0.1.4"])),
            ("api.web", RecordType::A, ok(&["10.0.1.2"])),
            ("api.my.net", RecordType::A, ok(&["10.0.2.2"])),
            ("api.1.abc.web", RecordType::A, ok(&["10.0.1.3"])),
            ("drained", RecordType::A, ok(&[])),
            ("api.other", RecordType::A, None),
            ("example.org", RecordType::A, None),
            ("3.1.0.10.in-addr.arpa", RecordType::PTR, ok(&["api.1.abc.web."])),
            ("9.1.0.10.in-addr.arpa", RecordType::PTR, None),
            ("1.0.10.in-addr.arpa", RecordType::PTR, None),
        ];
        for (name, kind, expected) in cases {
            assert_eq!(ask(name, kind, &all), expected, "{name} {kind}");
        }
    }

    #[test]
    fn a_large_answer_is_truncated_over_udp_only() {
        let addresses: Vec<[u8; 4]> = (1..=100).map(|n| [10, 0, 1, n]).collect();
        let net = network("web", &[("tasks.api", &addresses)], &[]);
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii("tasks.api.").unwrap(), RecordType::A));
        let Verdict::Answer(answer) = decide(&query, &[&net], &mut |_| {}) else {
            panic!("known name")
        };
        let udp = Message::from_vec(&encode(&query, &answer, Transport::Udp).unwrap()).unwrap();
        assert!(udp.metadata.truncation && udp.answers.is_empty());
        let tcp = Message::from_vec(&encode(&query, &answer, Transport::Tcp).unwrap()).unwrap();
        assert_eq!(tcp.answers.len(), 100);
    }
}
