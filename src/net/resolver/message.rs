//! Questions of a job and their answers, as DNS writes them (RFC 1035).

use std::net::IpAddr;
use std::time::Duration;

use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::message_builder::{AnswerBuilder, PushError, StaticCompressor};
use domain::base::{Message, MessageBuilder, Name, Question, ToName, Ttl};
use domain::rdata::{A, Aaaa, Cname};

/// The largest answer without EDNS over UDP (RFC 1035, section 2.3.4).
const PLAIN: usize = 512;

/// The largest that is asked for, and given, over UDP: one that no link of the Internet splits (RFC 9715).
const UNSPLIT: u16 = 1232;

/// What EDNS takes of an answer (RFC 6891, section 6.1.2).
const EDNS: usize = 11;

/// A message of any origin.
pub(super) type Heard = Message<Vec<u8>>;

/// An answer as it is written: without compression one of many addresses would not fit where the server's did.
type Records = AnswerBuilder<StaticCompressor<Vec<u8>>>;

/// One question of a job.
pub(super) struct Query {
    message: Heard,
    question: Question<Name<Vec<u8>>>,
    /// The name in lower case, without a last dot. What is no letter, digit, `-` or `_` has a backslash before it.
    pub(super) name: String,
}

/// Over what a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// What does not fit is left out, and asked for again over TCP.
    Udp,
    /// Everything fits.
    Tcp,
}

/// What a question that is none gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Nothing.
    Silence,
    /// This message.
    Answer(Vec<u8>),
}

impl Query {
    /// Reads the bytes of a job.
    ///
    /// # Errors
    /// What is answered in place of an answer.
    pub(super) fn read(bytes: &[u8]) -> Result<Query, Wrong> {
        let message = Message::from_octets(bytes.to_vec()).map_err(|_| Wrong::Silence)?;
        if message.header().qr() {
            return Err(Wrong::Silence);
        }
        let wrong = |rcode| {
            let empty = MessageBuilder::new_vec().start_error(&message, rcode);
            Wrong::Answer(empty.finish())
        };
        if message.header().opcode() != Opcode::QUERY {
            return Err(wrong(Rcode::NOTIMP));
        }
        let question = message.sole_question().map_err(|_| wrong(Rcode::FORMERR))?;
        if question.qclass() != Class::IN {
            return Err(wrong(Rcode::REFUSED));
        }
        let name: Name<Vec<u8>> = question.qname().to_name();
        let question = Question::new(name, question.qtype(), Class::IN);
        let name = question.qname().to_string().to_ascii_lowercase();
        Ok(Query {
            message,
            question,
            name,
        })
    }

    /// Whether it asks for addresses.
    pub(super) fn is_for_addresses(&self) -> bool {
        matches!(self.question.qtype(), Rtype::A | Rtype::AAAA)
    }

    /// The type of record that it asks for.
    #[cfg(any(fuzzing, test))]
    pub(super) fn kind(&self) -> Rtype {
        self.question.qtype()
    }

    /// What a server is asked: the question, and nothing else that the job has written.
    ///
    /// # Errors
    /// None: one question fits.
    pub(super) fn forwarded(&self, id: u16) -> Result<Heard, PushError> {
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(id);
        builder.header_mut().set_rd(true);
        let mut question = builder.question();
        question.push(&self.question)?;
        let mut additional = question.additional();
        additional.opt(|opt| {
            opt.set_udp_payload_size(UNSPLIT);
            Ok(())
        })?;
        Ok(additional.into_message())
    }

    /// The addresses that the name leads to, each with the time for which it does.
    pub(super) fn addresses(&self, heard: &Heard) -> Vec<(IpAddr, Duration)> {
        let Some((owner, answer)) = heard.canonical_name().zip(heard.answer().ok()) else {
            return Vec::new();
        };
        let of_owner = |found: Option<(bool, IpAddr, Ttl)>| {
            found.and_then(|(owned, address, ttl)| owned.then(|| (address, ttl.into_duration())))
        };
        match self.question.qtype() {
            Rtype::A => answer
                .limit_to_in::<A>()
                .flatten()
                .map(|record| {
                    Some((
                        *record.owner() == owner,
                        record.data().addr().into(),
                        record.ttl(),
                    ))
                })
                .filter_map(of_owner)
                .collect(),
            _ => answer
                .limit_to_in::<Aaaa>()
                .flatten()
                .map(|record| {
                    Some((
                        *record.owner() == owner,
                        record.data().addr().into(),
                        record.ttl(),
                    ))
                })
                .filter_map(of_owner)
                .collect(),
        }
    }

    /// The answer with these of its addresses, and the names on the way to them.
    pub(super) fn answer(&self, heard: &Heard, addresses: &[(IpAddr, Duration)], over: Transport) -> Vec<u8> {
        self.with(heard.header().rcode(), over, |records| {
            let at = self.push_aliases(records, heard)?;
            push_addresses(records, &at, addresses)
        })
    }

    /// The answer with those of these addresses that it asks for, which are nobody's to know but ours.
    pub(super) fn local(&self, addresses: &[IpAddr], lifetime: Duration, over: Transport) -> Vec<u8> {
        let asked = |address: &&IpAddr| match self.question.qtype() {
            Rtype::A => address.is_ipv4(),
            Rtype::AAAA => address.is_ipv6(),
            _ => false,
        };
        let found = addresses.iter().filter(asked);
        let found: Vec<(IpAddr, Duration)> = found.map(|address| (*address, lifetime)).collect();
        self.with(Rcode::NOERROR, over, |records| {
            push_addresses(records, self.question.qname(), &found)
        })
    }

    /// The answer with the records that `push` adds, as far as they fit; over UDP it says when they do not.
    fn with(
        &self,
        rcode: Rcode,
        over: Transport,
        push: impl FnOnce(&mut Records) -> Result<(), PushError>,
    ) -> Vec<u8> {
        let build = || -> Result<Vec<u8>, PushError> {
            let mut records = self.start(rcode)?;
            records.set_push_limit(match over {
                Transport::Tcp => usize::from(u16::MAX) - EDNS,
                Transport::Udp => self.udp_size() - EDNS,
            });
            let whole = push(&mut records).is_ok();
            records.clear_push_limit();
            records.header_mut().set_tc(!whole && over == Transport::Udp);
            self.finish(records)
        };
        build().unwrap_or_else(|_| self.bare(rcode))
    }

    /// Adds the aliases of the name; what they lead to in the end.
    fn push_aliases(&self, records: &mut Records, heard: &Heard) -> Result<Name<Vec<u8>>, PushError> {
        let mut at: Name<Vec<u8>> = self.question.qname().to_name();
        let Ok(answer) = heard.answer() else {
            return Ok(at);
        };
        // As many steps as canonical_name() takes.
        for _ in 0..20 {
            let mut aliases = answer.limit_to_in::<Cname<_>>().flatten();
            let Some(alias) = aliases.find(|record| *record.owner() == at) else {
                break;
            };
            let next: Name<Vec<u8>> = alias.data().cname().to_name();
            records.push((&at, alias.ttl(), Cname::new(&next)))?;
            at = next;
        }
        Ok(at)
    }

    /// The server's answer as it is, with the number of the job's question.
    pub(super) fn relay(&self, heard: &Heard, over: Transport) -> Vec<u8> {
        if over == Transport::Udp && heard.as_slice().len() > self.udp_size() {
            return self.too_long();
        }
        let mut relayed = heard.clone();
        relayed.header_mut().set_id(self.message.header().id());
        relayed.into_octets()
    }

    /// An answer without records.
    pub(super) fn empty(&self, rcode: Rcode) -> Vec<u8> {
        self.with(rcode, Transport::Udp, |_| Ok(()))
    }

    /// The same where nothing else can be written.
    fn bare(&self, rcode: Rcode) -> Vec<u8> {
        MessageBuilder::new_vec()
            .start_error(&self.message, rcode)
            .finish()
    }

    fn too_long(&self) -> Vec<u8> {
        let mut answer = MessageBuilder::new_vec().start_error(&self.message, Rcode::NOERROR);
        answer.header_mut().set_ra(true);
        answer.header_mut().set_tc(true);
        answer.finish()
    }

    fn start(&self, rcode: Rcode) -> Result<Records, PushError> {
        let builder = MessageBuilder::from_target(StaticCompressor::new(Vec::new()))?;
        let mut records = builder.start_answer(&self.message, rcode)?;
        records.header_mut().set_ra(true);
        Ok(records)
    }

    /// Ends an answer; to a question with EDNS one has EDNS (RFC 6891, section 6.1.1).
    fn finish(&self, records: Records) -> Result<Vec<u8>, PushError> {
        let mut additional = records.additional();
        if self.message.opt().is_some() {
            additional.opt(|opt| {
                opt.set_udp_payload_size(UNSPLIT);
                Ok(())
            })?;
        }
        Ok(additional.finish().into_target())
    }

    /// The largest answer over UDP that the job can take.
    fn udp_size(&self) -> usize {
        let said = self.message.opt().map(|opt| usize::from(opt.udp_payload_size()));
        said.map_or(PLAIN, |size| size.clamp(PLAIN, 4096))
    }
}

fn push_addresses(
    records: &mut Records,
    at: &impl ToName,
    addresses: &[(IpAddr, Duration)],
) -> Result<(), PushError> {
    for (address, lifetime) in addresses {
        let ttl = Ttl::from_duration_lossy(*lifetime);
        match address {
            IpAddr::V4(address) => records.push((at, ttl, A::new(*address)))?,
            IpAddr::V6(address) => records.push((at, ttl, Aaaa::new(*address)))?,
        }
    }
    Ok(())
}
