//! A port that a server can have again.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::eventually;

/// A port of 127.0.0.1 that is bound and not listened on: nobody else is given it, and a server that sets `SO_REUSEADDR`, as the
/// mirror does, can listen on it again and again.
#[derive(Debug)]
pub struct ReservedPort {
    /// Held until this is dropped.
    _socket: Socket,
    address: SocketAddr,
}

impl ReservedPort {
    /// Any free port. Panics if the machine has none left.
    pub fn new() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = bound(any);
        let address = socket.local_addr().expect("a bound socket has an address");
        Self {
            address: address.as_socket().expect("it is an IPv4 socket"),
            _socket: socket,
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }
}

impl Default for ReservedPort {
    fn default() -> Self {
        Self::new()
    }
}

/// A socket that has this address and does not listen: clients are refused.
pub(crate) fn bound(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
    socket.set_reuse_address(true).expect("a new socket takes options");
    // A process that is being started by another test has every socket of ours until it runs its program.
    let bind = || socket.bind(&address.into()).ok();
    eventually(Duration::from_secs(10), bind).expect("the port is free");
    socket
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_reserved_port_refuses_until_somebody_listens_and_again_after() {
        let port = ReservedPort::new();
        for _ in 0..2 {
            assert!(TcpStream::connect(port.authority()).is_err());
            let server = bound(port.address);
            server.listen(8).unwrap();
            assert!(TcpStream::connect(port.authority()).is_ok());
        }
    }
}
