//! What must hold for any bytes of a job and of a server: the body of the fuzz target, and the replay of its corpus.

use domain::base::Message;
use domain::base::iana::Rcode;

use super::message::{Query, Transport, Wrong};

/// A question of a job, after its length in one byte, and a server's answer to it: what comes out is an answer to that
/// question, of the length that the job can take, with no address that the server did not give.
pub fn dns_message(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first() else {
        return;
    };
    let (question, answer) = rest.split_at(rest.len().min(usize::from(*length)));
    let query = match Query::read(question) {
        Ok(query) => query,
        Err(Wrong::Silence) => return,
        Err(Wrong::Answer(wrong)) => return drop(checked(question, &wrong)),
    };
    assert!(!query.name.bytes().any(|byte| byte.is_ascii_uppercase()));
    let forwarded = query.forwarded(7).expect("one question fits");
    assert_eq!(forwarded.sole_question().unwrap().qtype(), query.kind());
    checked(question, &query.empty(Rcode::REFUSED));

    let Ok(heard) = Message::from_octets(answer.to_vec()) else {
        return;
    };
    let given = query.addresses(&heard);
    let addresses: Vec<_> = given.iter().map(|(address, _)| *address).collect();
    for over in [Transport::Udp, Transport::Tcp] {
        let most = match over {
            Transport::Udp => 4096,
            Transport::Tcp => usize::from(u16::MAX),
        };
        let told = [
            query.answer(&heard, &given, over),
            query.local(&addresses, super::MOMENT, over),
        ];
        for told in told {
            assert!(told.len() <= most, "{} bytes", told.len());
            let told = checked(question, &told);
            assert!(
                query
                    .addresses(&told)
                    .iter()
                    .all(|(address, _)| addresses.contains(address))
            );
        }
        // As long as the server made it, over TCP.
        assert!(query.relay(&heard, over).len() <= most.max(answer.len()));
    }
}

/// The message, which must be an answer to a question.
fn checked(question: &[u8], answer: &[u8]) -> Message<Vec<u8>> {
    let message = Message::from_octets(answer.to_vec()).expect("a message");
    assert!(message.header().qr());
    assert_eq!(answer[..2], question[..2], "the number of another question");
    message
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_dns_messages_holds() {
        crate::image::fuzz::tests::replay("dns_message", super::dns_message);
    }
}
