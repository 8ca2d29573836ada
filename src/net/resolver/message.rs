//! Questions of a job and their answers, as DNS writes them (RFC 1035).

use std::net::IpAddr;
use std::time::Duration;

use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::message_builder::{AnswerBuilder, PushError};
use domain::base::{Message, MessageBuilder, Name, Question, ToName, Ttl};
use domain::rdata::{A, Aaaa, Cname};

/// The largest answer without EDNS over UDP (RFC 1035, section 2.3.4).
const PLAIN: usize = 512;

/// The largest that is asked for, and given, over UDP: one that no link of the Internet splits (RFC 9715).
const UNSPLIT: u16 = 1232;

/// A message of any origin.
pub(super) type Heard = Message<Vec<u8>>;

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
        let build = || -> Result<Vec<u8>, PushError> {
            let mut answer = self.start(heard.header().rcode())?;
            let whole = self.push(&mut answer, heard, addresses, over)?;
            answer.header_mut().set_tc(!whole);
            self.finish(answer)
        };
        build().unwrap_or_else(|_| self.empty(Rcode::SERVFAIL))
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
        let build = || -> Result<Vec<u8>, PushError> {
            let mut answer = self.start(Rcode::NOERROR)?;
            let owner: Name<Vec<u8>> = self.question.qname().to_name();
            let whole = self.push_addresses(&mut answer, &owner, &found, over)?;
            answer.header_mut().set_tc(!whole);
            self.finish(answer)
        };
        build().unwrap_or_else(|_| self.empty(Rcode::SERVFAIL))
    }

    /// Adds the records as far as they fit; whether all have.
    fn push(
        &self,
        answer: &mut AnswerBuilder<Vec<u8>>,
        heard: &Heard,
        addresses: &[(IpAddr, Duration)],
        over: Transport,
    ) -> Result<bool, PushError> {
        let Ok(records) = heard.answer() else {
            return Ok(true);
        };
        let mut at: Name<Vec<u8>> = self.question.qname().to_name();
        // As many steps as canonical_name() takes.
        for _ in 0..20 {
            let mut aliases = records.limit_to_in::<Cname<_>>().flatten();
            let Some(alias) = aliases.find(|record| *record.owner() == at) else {
                break;
            };
            let next: Name<Vec<u8>> = alias.data().cname().to_name();
            answer.push((&at, alias.ttl(), Cname::new(&next)))?;
            at = next;
        }
        self.push_addresses(answer, &at, addresses, over)
    }

    fn push_addresses(
        &self,
        answer: &mut AnswerBuilder<Vec<u8>>,
        at: &Name<Vec<u8>>,
        addresses: &[(IpAddr, Duration)],
        over: Transport,
    ) -> Result<bool, PushError> {
        let room = match over {
            Transport::Tcp => usize::from(u16::MAX),
            Transport::Udp => self.udp_size(),
        };
        for (address, lifetime) in addresses {
            // An address takes 28 bytes besides its owner's name, EDNS 11.
            if answer.as_slice().len() + 28 + 11 + at.len() > room {
                return Ok(false);
            }
            let ttl = Ttl::from_duration_lossy(*lifetime);
            match address {
                IpAddr::V4(address) => answer.push((at, ttl, A::new(*address)))?,
                IpAddr::V6(address) => answer.push((at, ttl, Aaaa::new(*address)))?,
            }
        }
        Ok(true)
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
        let build = || self.finish(self.start(rcode)?);
        build().unwrap_or_else(|_| {
            MessageBuilder::new_vec()
                .start_error(&self.message, rcode)
                .finish()
        })
    }

    fn too_long(&self) -> Vec<u8> {
        let mut answer = MessageBuilder::new_vec().start_error(&self.message, Rcode::NOERROR);
        answer.header_mut().set_ra(true);
        answer.header_mut().set_tc(true);
        answer.finish()
    }

    fn start(&self, rcode: Rcode) -> Result<AnswerBuilder<Vec<u8>>, PushError> {
        let mut answer = MessageBuilder::new_vec().start_answer(&self.message, rcode)?;
        answer.header_mut().set_ra(true);
        Ok(answer)
    }

    /// Ends an answer; to a question with EDNS one has EDNS (RFC 6891, section 6.1.1).
    fn finish(&self, answer: AnswerBuilder<Vec<u8>>) -> Result<Vec<u8>, PushError> {
        let mut additional = answer.additional();
        if self.message.opt().is_some() {
            additional.opt(|opt| {
                opt.set_udp_payload_size(UNSPLIT);
                Ok(())
            })?;
        }
        Ok(additional.finish())
    }

    /// The largest answer over UDP that the job can take.
    fn udp_size(&self) -> usize {
        let said = self.message.opt().map(|opt| usize::from(opt.udp_payload_size()));
        said.map_or(PLAIN, |size| size.clamp(PLAIN, 4096))
    }
}
