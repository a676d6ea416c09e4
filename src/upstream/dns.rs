//! A stub resolver for what the system's cannot answer: SRV records, how long an answer counts, another server.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE, rdata::RData};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// Which servers this machine asks.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// More lines of it do not count.
const MAX_SERVERS: usize = 3;
/// For one question to one server; asked twice, because datagrams get lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const TRIES: usize = 2;
/// The largest answer by UDP that was ever asked for.
const MAX_DATAGRAM_BYTES: usize = 4096;

/// What a name leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Records<T> {
    pub(super) records: Vec<T>,
    /// The shortest time that one of them counts.
    pub(super) ttl: Duration,
}

/// A server of a service (RFC 2782).
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Service {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) target: String,
}

/// Asks DNS servers.
pub(super) struct Resolver {
    servers: Vec<SocketAddr>,
}

impl Resolver {
    /// Asks this server.
    pub(super) fn at(server: SocketAddr) -> Self {
        Self { servers: vec![server] }
    }

    /// Asks the servers of this machine.
    pub(super) async fn of_this_machine() -> Self {
        let text = tokio::task::spawn_blocking(|| std::fs::read_to_string(RESOLV_CONF)).await;
        Self { servers: name_servers(&text.ok().and_then(Result::ok).unwrap_or_default()) }
    }

    /// The SRV records of a name.
    pub(super) async fn services(&self, name: &str) -> io::Result<Records<Service>> {
        let service = |data: &RData<'_>| match data {
            RData::SRV(srv) => {
                let (priority, weight, port) = (srv.priority, srv.weight, srv.port);
                Some(Service { priority, weight, port, target: srv.target.to_string() })
            }
            _ => None,
        };
        let found = self.ask(name, TYPE::SRV, service).await?;
        // A single record with the target "." says that there is no such service.
        let records: Vec<_> = found.records.into_iter().filter(|srv| !srv.target.is_empty() && srv.port != 0).collect();
        if records.is_empty() { Err(nothing(name, "SRV records")) } else { Ok(Records { records, ..found }) }
    }

    /// The addresses of a name.
    pub(super) async fn addresses(&self, name: &str) -> io::Result<Records<IpAddr>> {
        let address = |data: &RData<'_>| match data {
            RData::A(a) => Some(IpAddr::V4(Ipv4Addr::from(a.address))),
            RData::AAAA(aaaa) => Some(IpAddr::V6(Ipv6Addr::from(aaaa.address))),
            _ => None,
        };
        let (four, six) = tokio::join!(self.ask(name, TYPE::A, address), self.ask(name, TYPE::AAAA, address));
        let (mut found, other) = match (four, six) {
            (Ok(four), Ok(six)) => (four, Some(six)),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => (one, None),
            (Err(error), Err(_)) => return Err(error),
        };
        if let Some(other) = other.filter(|other| !other.records.is_empty()) {
            found.ttl = if found.records.is_empty() { other.ttl } else { found.ttl.min(other.ttl) };
            found.records.extend(other.records);
        }
        if found.records.is_empty() { Err(nothing(name, "addresses")) } else { Ok(found) }
    }

    /// Asks each server until one answers.
    async fn ask<T: Ord>(
        &self,
        name: &str,
        kind: TYPE,
        pick: impl Fn(&RData<'_>) -> Option<T>,
    ) -> io::Result<Records<T>> {
        let mut failed = io::Error::new(io::ErrorKind::NotFound, format!("no DNS server in {RESOLV_CONF}"));
        for server in self.servers.iter().cycle().take(self.servers.len() * TRIES) {
            let answer = timeout(ANSWER_TIMEOUT, exchange(*server, name, kind)).await;
            match answer
                .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the DNS server does not answer")))
            {
                Ok(bytes) => match read(&bytes, &pick) {
                    Ok(records) => return Ok(records),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
                    Err(error) => failed = error,
                },
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// The records that are wanted, each once.
fn read<T: Ord>(bytes: &[u8], pick: impl Fn(&RData<'_>) -> Option<T>) -> io::Result<Records<T>> {
    let packet = Packet::parse(bytes).map_err(bad)?;
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Err(io::Error::new(io::ErrorKind::NotFound, "DNS knows no such name")),
        other => return Err(io::Error::other(format!("the DNS server answers {other:?}"))),
    }
    let mut records = BTreeSet::new();
    let mut ttl = u32::MAX;
    for record in &packet.answers {
        // The time of an alias counts as well.
        ttl = ttl.min(record.ttl);
        records.extend(pick(&record.rdata));
    }
    Ok(Records { records: records.into_iter().collect(), ttl: Duration::from_secs(ttl.into()) })
}

/// One question by UDP, and by TCP where the answer is cut off. What does not answer this very question does not count.
async fn exchange(server: SocketAddr, name: &str, kind: TYPE) -> io::Result<Vec<u8>> {
    let id = rand::random();
    let mut query = Packet::new_query(id);
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    let question = Question::new(Name::new(name).map_err(bad)?, QTYPE::TYPE(kind), CLASS::IN.into(), false);
    query.questions.push(question.clone());
    let asked = query.build_bytes_vec().map_err(bad)?;
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    // Only what comes from there is received.
    socket.connect(server).await?;
    socket.send(&asked).await?;
    let mut answer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let length = socket.recv(&mut answer).await?;
        let Some(bytes) = answer.get(..length) else { continue };
        match answers(bytes, id, &question) {
            Some(true) => return by_tcp(server, &asked, id, &question).await,
            Some(false) => return Ok(bytes.to_owned()),
            None => {}
        }
    }
}

async fn by_tcp(server: SocketAddr, asked: &[u8], id: u16, question: &Question<'_>) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_u16(u16::try_from(asked.len()).map_err(bad)?).await?;
    stream.write_all(asked).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    match answers(&answer, id, question) {
        Some(_) => Ok(answer),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "the DNS server answers another question")),
    }
}

/// Is it the answer to this question, and is it cut off?
fn answers(bytes: &[u8], id: u16, question: &Question<'_>) -> Option<bool> {
    // One that is cut off may not be parsed as a whole.
    let packet = Packet::parse(bytes).ok()?;
    let same_name = |asked: &Question<'_>| {
        asked.qname.to_string().eq_ignore_ascii_case(&question.qname.to_string()) && asked.qtype == question.qtype
    };
    let is_it = packet.id() == id && packet.has_flags(PacketFlag::RESPONSE) && packet.questions.iter().any(same_name);
    is_it.then(|| packet.has_flags(PacketFlag::TRUNCATION))
}

fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let lines = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        Some(SocketAddr::new(address.parse().ok()?, 53))
    });
    lines.take(MAX_SERVERS).collect()
}

fn bad(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

fn nothing(name: &str, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("DNS has no {what} of {name}"))
}

#[cfg(test)]
mod tests {
    use super::name_servers;

    #[test]
    fn the_servers_of_this_machine_are_read() {
        let text = "# comment\nsearch example.com\nnameserver 192.0.2.1\nnameserver  2001:db8::1 # second\n\
                    nameserver nonsense\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let expected = ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"];
        assert_eq!(name_servers(text).iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
        assert_eq!(name_servers(""), []);
    }
}
